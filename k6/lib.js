// The code that the scripts share: the server's address, its routes with tags and checks, settings with bounds.
import http from "k6/http";
import { check } from "k6";

// A load test sends nothing to another machine, whatever its settings say.
function loopback(url) {
  if (!/^http:\/\/(127\.0\.0\.1|localhost|\[::1\])(:\d+)?$/.test(url)) {
    throw new Error(`${url}: only an address of this machine is loaded, as http://127.0.0.1:3000`);
  }
  return url;
}

export const base = loopback(__ENV.BASE_URL || "http://127.0.0.1:3000");

// node is the address of another server, empty if there is none.
export const node = (name) => (__ENV[name] ? loopback(__ENV[name]) : "");

// cookieName is the name of the cookie under `coatcheck serve --dev`.
export const cookieName = "coatcheck";

// number is a setting from the environment, refused beyond its bounds: a run ends by itself.
export function number(name, preset, least, most) {
  const n = Number(__ENV[name] || preset);
  if (!(n >= least && n <= most)) {
    throw new Error(`${name}=${__ENV[name]}: from ${least} to ${most}`);
  }
  return n;
}

// seconds is DURATION, a number of them.
export const seconds = (preset, most = 3600) => number("DURATION", preset, 5, most);

// limits are thresholds that hold for every script: right answers only, and how many milliseconds 95 and 99 of 100 requests
// may take, which P95 and P99 change for a slower machine.
export function limits(p95, p99, more) {
  return Object.assign({ checks: ["rate==1"], http_req_failed: ["rate==0"], http_req_duration: within(p95, p99) }, more);
}

export const within = (p95, p99) => [`p(95)<${number("P95", p95, 1, 60000)}`, `p(99)<${number("P99", p99, 1, 60000)}`];

// stats are the figures of the summary.
export const stats = ["avg", "min", "med", "p(95)", "p(99)", "max", "count"];

// call sends one request. It is tagged with its route, so that paths with an ID in them are one line in the report, and the
// status that is wanted is the one that counts as success.
export function call(method, path, { route = path, body = null, status = 200, at = base, jar, headers = {}, tags = {} } = {}) {
  const params = {
    headers: body === null ? headers : Object.assign({ "Content-Type": "application/json" }, headers),
    tags: Object.assign({ name: `${method} ${route}` }, tags),
    responseCallback: http.expectedStatuses(status),
  };
  if (jar) {
    params.jar = jar;
  }
  const res = http.request(method, at + path, body === null ? null : JSON.stringify(body), params);
  check(res, { [`${method} ${route}: ${status}`]: (r) => r.status === status }, tags);
  return res;
}

// json is the body as an object, null if it is none. Not res.json(), which loses the order of the members.
export function json(res) {
  try {
    return JSON.parse(res.body);
  } catch (_) {
    return null;
  }
}

const idForm = /^[A-Za-z0-9_-]{22}$/;

export const isID = (s) => typeof s === "string" && idForm.test(s);

// isView compares a body with the view of a user's session: four members, in order.
export function isView(res, user, refreshed) {
  const v = json(res);
  return (
    v !== null &&
    Object.keys(v).join() === "authenticated,user_id,refreshed,session_id" &&
    v.authenticated === true &&
    v.user_id === user &&
    v.refreshed === refreshed &&
    isID(v.session_id)
  );
}

const anonymousView = '{"authenticated":false,"user_id":null,"refreshed":false,"session_id":null}';

export const isAnonymous = (res) => res.body === anonymousView;

export function login(user, options) {
  const res = call("POST", "/auth/login", Object.assign({ body: { user_id: user } }, options));
  check(res, { "login: the user's view": (r) => isView(r, user, false) });
  return res;
}

// me asks who is logged in, and checks that it is the user whose cookie this virtual user holds.
export function me(user, refreshed = false, options) {
  const res = call("GET", "/auth/me", options);
  check(res, { "me: the user's view": (r) => isView(r, user, refreshed) });
  return res;
}

export function refresh(user, options) {
  const res = call("POST", "/auth/refresh", options);
  check(res, { "refresh: the user's view": (r) => isView(r, user, true) });
  return res;
}

export const logout = (options) => call("POST", "/auth/logout", Object.assign({ status: 204 }, options));

// once runs a function the first time that this virtual user comes here, as a browser logs in once and stays.
let done = false;
export function once(f) {
  if (!done) {
    f();
    done = true;
  }
}
