// The recipe with Node's own fetch, which has no cookie jar: this is the smallest that keeps what RFC 6265 asks for here.
// Usage: node recipe.mjs URL. Prints a line for each step.
import assert from "node:assert/strict";

const base = process.argv[2];
const jar = new Map();

async function call(method, path, body) {
  const resp = await fetch(base + path, {
    method,
    headers: {
      ...(jar.size && { Cookie: [...jar].map(([name, value]) => `${name}=${value}`).join("; ") }),
      ...(body && { "Content-Type": "application/json" }),
    },
    body: body && JSON.stringify(body),
  });
  const set = resp.headers.get("Set-Cookie"); // one at most
  if (set) {
    const [, name, value] = set.match(/^([^=;]+)=([^;]*)/);
    if (/; *Max-Age=0(;|$)/i.test(set)) jar.delete(name);
    else jar.set(name, value);
  }
  const text = await resp.text();
  return { status: resp.status, view: text && JSON.parse(text) };
}

const anonymous = { authenticated: false, user_id: null, refreshed: false, session_id: null };
assert.deepEqual((await call("GET", "/auth/me")).view, anonymous);

const login = await call("POST", "/auth/login", { user_id: "Jürgen 🧥" });
assert.equal(login.status, 200);
assert.equal(login.view.user_id, "Jürgen 🧥");
assert.deepEqual((await call("GET", "/auth/me")).view, login.view);
console.log("login, me");

const [first] = jar.values();
const refresh = await call("POST", "/auth/refresh");
assert.equal(refresh.view.refreshed, true);
assert.notEqual(refresh.view.session_id, login.view.session_id);
assert.notEqual([...jar.values()][0], first);
console.log("refresh");

// Ten at once with one cookie: whatever order the answers come in, the jar ends with a live one.
const all = await Promise.all(Array.from({ length: 10 }, () => call("POST", "/auth/refresh")));
assert.ok(all.every(({ status, view }) => status === 200 && view.authenticated));
assert.equal((await call("GET", "/auth/me")).view.user_id, "Jürgen 🧥");
console.log("parallel refreshes");

const last = [...jar][0];
assert.equal((await call("POST", "/auth/logout")).status, 204);
assert.equal(jar.size, 0);
assert.deepEqual((await call("GET", "/auth/me")).view, anonymous);
jar.set(...last);
assert.deepEqual((await call("GET", "/auth/me")).view, anonymous);
console.log("logout");
