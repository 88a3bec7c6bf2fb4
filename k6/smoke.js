// The routes of sessions, each once, and what clients rely on in the answers. It takes seconds and runs in CI.
import http from "k6/http";
import { check, group } from "k6";
import { base, call, cookieName, isAnonymous, isID, json, limits, login, logout, me, node, refresh, stats } from "./lib.js";

export const options = {
  scenarios: { smoke: { executor: "shared-iterations", vus: 1, iterations: 1, maxDuration: "1m" } },
  thresholds: limits(500, 1000),
  summaryTrendStats: stats,
};

const user = "smoke/käse 100%";
const encoded = "smoke%2Fk%C3%A4se%20100%25"; // in a path
const remoteUser = "smoke/k%C3%A4se%20100%25"; // in a header, where only % and bytes outside 0x21 to 0x7E are encoded
const admin = node("ADMIN_URL");

const headers = {
  "Cache-Control": "no-store",
  Vary: "Cookie",
  "X-Content-Type-Options": "nosniff",
  "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
  "Referrer-Policy": "no-referrer",
  "Cross-Origin-Resource-Policy": "same-origin",
};

function hasHeaders(res, type) {
  const checks = {};
  for (const [name, value] of Object.entries(headers)) {
    checks[`${name}: ${value}`] = (r) => r.headers[name] === value;
  }
  checks["Content-Type"] = (r) => (r.headers["Content-Type"] || "") === type;
  check(res, checks);
}

const none = (res) => !res.headers["Set-Cookie"];

// attributes of a Set-Cookie line, sorted, without the value.
function attributes(res) {
  const [pair, ...rest] = (res.headers["Set-Cookie"] || "").split("; ");
  const [name, value] = pair.split("=");
  return { name, value: value || "", rest: rest.filter((a) => !a.startsWith("Max-Age=")).sort().join("; "), all: rest };
}

function setsCookie(res) {
  const c = attributes(res);
  const age = Number((c.all.find((a) => a.startsWith("Max-Age=")) || "").slice(8));
  check(res, {
    "Set-Cookie: its name": () => c.name === cookieName,
    "Set-Cookie: 43 characters of base64url": () => /^[A-Za-z0-9_-]{43}$/.test(c.value),
    "Set-Cookie: Max-Age is what is left of 12 hours": () => age > 12 * 3600 - 60 && age <= 12 * 3600,
    "Set-Cookie: HttpOnly, Path, SameSite": () => c.rest === "HttpOnly; Path=/; SameSite=Lax",
  });
  return c.value;
}

function clearsCookie(res) {
  const c = attributes(res);
  check(res, {
    "clear: name, no value, Max-Age=0": () => c.name === cookieName && c.value === "" && c.all.includes("Max-Age=0"),
    "clear: HttpOnly, Path, SameSite": () => c.rest === "HttpOnly; Path=/; SameSite=Lax",
  });
}

function isProblem(res, code) {
  hasHeaders(res, "application/problem+json");
  const p = json(res) || {};
  check(res, {
    "problem: its members": () => Object.keys(p).sort().join() === "code,detail,status,title,type",
    "problem: code": () => p.code === code,
    "problem: status": () => p.status === res.status,
    "problem: texts": () => p.type === "about:blank" && p.title.length > 0 && p.detail.length > 0,
  });
}

const time = (s) => /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(s) && !Number.isNaN(Date.parse(s));

function isSession(s, members) {
  return (
    Object.keys(s).sort().join() === members &&
    isID(s.handle) &&
    isID(s.session_id) &&
    s.handle !== s.session_id &&
    [s.created_at, s.last_seen_at, s.expires_at].every(time) &&
    Date.parse(s.created_at) <= Date.parse(s.last_seen_at) &&
    s.last_seen_at < s.expires_at &&
    s.bound === false &&
    s.created_ip === "127.0.0.1" &&
    s.ip === "127.0.0.1" &&
    s.user_agent.length > 0
  );
}

function list(wanted, options) {
  const res = call("GET", "/auth/sessions", options);
  hasHeaders(res, "application/json");
  const sessions = (json(res) || {}).sessions || [];
  check(res, {
    "sessions: as many as there are": () => sessions.length === wanted,
    "sessions: every member": () =>
      sessions.every((s) => isSession(s, "bound,created_at,created_ip,current,expires_at,handle,ip,last_seen_at,session_id,user_agent")),
    "sessions: one is current": () => sessions.filter((s) => s.current === true).length === 1,
    "sessions: newest first": () =>
      sessions.every((s, i) => i === 0 || Date.parse(s.created_at) <= Date.parse(sessions[i - 1].created_at)),
  });
  return sessions;
}

function anonymous() {
  const res = call("GET", "/auth/me");
  hasHeaders(res, "application/json");
  check(res, { "me: the anonymous view": isAnonymous, "me: no cookie": none });
  check(call("POST", "/auth/refresh"), { "refresh: the anonymous view": isAnonymous, "refresh: no cookie": none });
  clearsCookie(logout());
  isProblem(call("GET", "/auth/verify", { status: 401 }), "unauthenticated");
  isProblem(call("GET", "/auth/sessions", { status: 401 }), "unauthenticated");
  isProblem(call("GET", "/auth/nothing", { status: 404 }), "not_found");
  isProblem(call("DELETE", "/auth/me", { status: 405 }), "method_not_allowed");
  isProblem(call("POST", "/auth/login", { status: 422, body: { user_id: "" } }), "invalid_user_id");
  const elsewhere = { Origin: "http://elsewhere.example" };
  isProblem(call("POST", "/auth/login", { status: 403, body: { user_id: "x" }, headers: elsewhere }), "cross_site");
}

function session() {
  const began = login(user);
  hasHeaders(began, "application/json");
  const first = setsCookie(began);
  const id = json(began).session_id;
  const seen = me(user);
  check(seen, { "me: the ID that login showed": () => json(seen).session_id === id, "me: no cookie": none });

  const verified = call("GET", "/auth/verify");
  isProblem(call("GET", "/auth/verify?group=admins", { status: 403 }), "group_required");
  isProblem(call("GET", "/auth/verify?other=x", { status: 400 }), "malformed_query");
  check(call("GET", "/auth/userinfo"), { "userinfo: sub": (r) => json(r).sub === user });
  check(verified, {
    "verify: Remote-User": (r) => r.headers["Remote-User"] === remoteUser,
    "verify: Remote-Name, Remote-Email and Remote-Groups, empty": (r) => ["Name", "Email", "Groups"].every((n) => (r.headers[`Remote-${n}`] ?? "") === ""),
    "verify: Remote-Session-Id": (r) => r.headers["Remote-Session-Id"] === id,
    "verify: empty, no cookie": (r) => !r.body && none(r),
  });

  const rotated = refresh(user);
  const second = setsCookie(rotated);
  const newID = json(rotated).session_id;
  check(rotated, {
    "refresh: another ID": () => newID !== id,
    "refresh: another secret of the same key": () => second !== first && second.slice(0, 21) === first.slice(0, 21),
  });
  const again = me(user, true);
  check(again, { "me: the ID that refresh showed": () => json(again).session_id === newID, "me: no cookie after refresh": none });
  return newID;
}

// devices signs in on two more devices, ends one by its handle and the other with the rest.
function devices(id) {
  const jars = [new http.CookieJar(), new http.CookieJar()];
  const ids = jars.map((jar) => json(login(user, { jar })).session_id);
  const sessions = list(3);
  const handle = (sessions.find((s) => s.session_id === ids[0]) || {}).handle;
  check(null, { "sessions: the current one is this one": () => (sessions.find((s) => s.current) || {}).session_id === id });
  const byID = { route: "/auth/sessions/{id}" };
  call("DELETE", `/auth/sessions/${handle}`, Object.assign({ status: 204 }, byID));
  isProblem(call("DELETE", `/auth/sessions/${handle}`, Object.assign({ status: 404 }, byID)), "session_not_found");
  check(call("GET", "/auth/me", { jar: jars[0] }), { "an ended device: anonymous, no cookie": (r) => isAnonymous(r) && none(r) });
  me(user, false, { jar: jars[1] });
  const ended = call("DELETE", "/auth/sessions");
  hasHeaders(ended, "application/json");
  check(ended, { "sign out elsewhere: one was ended": (r) => r.body === '{"revoked":1}' });
  check(call("GET", "/auth/me", { jar: jars[1] }), { "the other device: anonymous": isAnonymous });
  list(1);
}

function administration() {
  const at = { at: admin };
  check(call("GET", "/healthz", at), { "healthz: its body": (r) => json(r).status === "ok" });
  check(call("GET", "/readyz", at), { "readyz: its body": (r) => json(r).status === "ready" });
  const route = "/admin/users/{user_id}/sessions";
  const path = `/admin/users/${encoded}/sessions`;
  login(user, { jar: new http.CookieJar() });
  const res = call("GET", path, { at: admin, route });
  const sessions = (json(res) || {}).sessions || [];
  check(res, {
    "admin: both sessions": () => sessions.length === 2,
    "admin: every member": () =>
      sessions.every((s) => isSession(s, "bound,created_at,created_ip,expires_at,handle,ip,last_seen_at,session_id,user_agent")),
  });
  const query = `/admin/sessions?user_id=${encoded}`;
  check(call("GET", query, { at: admin, route: "/admin/sessions" }), { "admin: the same by query": (r) => r.body === res.body });
  const everybody = (json(call("GET", "/admin/sessions", at)) || {}).sessions || [];
  check(everybody, {
    "admin: of all users": (all) => all.filter((s) => s.user_id === user).length === 2,
    "admin: of all users, every member": (all) =>
      all.every((s) => isSession(s, "bound,created_at,created_ip,expires_at,handle,ip,last_seen_at,session_id,user_agent,user_id")),
  });
  call("DELETE", `${path}/${(sessions[0] || {}).handle}`, { at: admin, route: `${route}/{id}`, status: 204 });
  check(call("DELETE", path, { at: admin, route }), { "admin: one was left to end": (r) => r.body === '{"revoked":1}' });
  check(call("GET", "/auth/me"), { "a revoked session: anonymous": isAnonymous });
  check(call("DELETE", query, { at: admin, route: "/admin/sessions" }), { "admin: nothing is left to end": (r) => r.body === '{"revoked":0}' });
}

export default function () {
  group("anonymous", anonymous);
  let id;
  group("session", () => {
    id = session();
  });
  group("devices", () => devices(id));
  if (admin) {
    group("admin", administration);
  }
  group("logout", () => {
    login(user);
    const token = http.cookieJar().cookiesForURL(base)[cookieName][0];
    clearsCookie(logout());
    const jar = new http.CookieJar();
    jar.set(base, cookieName, token);
    check(call("GET", "/auth/me", { jar }), { "me after logout: anonymous": isAnonymous });
    check(http.cookieJar().cookiesForURL(base), { "the jar is empty": (c) => !c[cookieName] });
  });
}
