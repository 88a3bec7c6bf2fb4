// Two nodes on one Redis: after a logout on one node, how long does the session live on the other? And after a refresh on one
// node, the other accepts the new cookie at once.
import http from "k6/http";
import { check, fail, sleep } from "k6";
import exec from "k6/execution";
import { Trend } from "k6/metrics";
import { base, call, cookieName, isAnonymous, isView, limits, login, logout, me, node, number, refresh, seconds, stats } from "./lib.js";

const other = node("OTHER_URL");
const patience = 5000; // milliseconds; the bound when the connection to Redis breaks unnoticed

const until = new Trend("revocation_ms", true);
const again = new Trend("revocation_answers");

export const options = {
  scenarios: {
    leavers: { executor: "constant-vus", vus: number("VUS", 4, 1, 200), duration: `${seconds(20)}s`, gracefulStop: "30s" },
  },
  thresholds: limits(100, 300, { revocation_ms: ["p(99)<50", `max<${patience}`] }),
  summaryTrendStats: stats,
};

export function setup() {
  if (!other) {
    fail("OTHER_URL: this script wants two servers on one Redis; k6/run starts them");
  }
}

// carry copies the cookie that this virtual user got from the first node into another jar, from which the other node is asked.
// A jar tells hosts apart but not ports, so the first node's answers would change a jar that both nodes shared.
function carry(jar) {
  jar.set(other, cookieName, http.cookieJar().cookiesForURL(base)[cookieName][0]);
}

export default function () {
  const user = `leaver-${exec.vu.idInTest}`;
  const jar = new http.CookieJar();
  const there = { at: other, jar, route: "/auth/me (other node)" };
  login(user);
  carry(jar);
  me(user, false, there);
  me(user, false, there); // now the other node has it in its cache
  refresh(user);
  carry(jar);
  me(user, true, there);
  me(user, true, there);
  logout();
  const began = Date.now();
  let answers = 0;
  for (;;) {
    const res = call("GET", "/auth/me", there);
    if (!isView(res, user, true)) {
      check(res, { "the other node: anonymous": isAnonymous });
      break;
    }
    answers++;
    if (Date.now() - began > patience) {
      check(res, { "the other node: anonymous": () => false });
      break;
    }
    sleep(0.001);
  }
  until.add(Date.now() - began);
  again.add(answers);
  check(call("GET", "/auth/me"), { "the node itself: anonymous at once": isAnonymous });
}
