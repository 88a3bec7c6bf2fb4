// Visits for a long time: nothing may get slower, wrong or larger. k6/run prints the server's memory before and after.
import http from "k6/http";
import { check, sleep } from "k6";
import exec from "k6/execution";
import { call, isAnonymous, json, limits, login, logout, me, number, refresh, seconds, stats, within } from "./lib.js";

export const options = {
  scenarios: {
    visitors: { executor: "constant-vus", vus: number("VUS", 20, 1, 1000), duration: `${seconds(600, 86400)}s`, gracefulStop: "30s" },
  },
  // The last tenth is held to the same limits by itself: a server that slows down is found, however good the average is.
  thresholds: limits(50, 200, {
    "http_req_duration{phase:early}": within(50, 200),
    "http_req_duration{phase:late}": within(50, 200),
  }),
  summaryTrendStats: stats,
};

export default function () {
  const progress = exec.scenario.progress;
  const tags = { phase: progress < 0.1 ? "early" : progress < 0.9 ? "middle" : "late" };
  const user = `soak-${exec.vu.idInTest}`;
  const pause = () => sleep(0.5 + Math.random());
  login(user, { tags });
  const phone = { jar: new http.CookieJar(), tags };
  login(user, phone);
  for (let i = 0; i < 5; i++) {
    pause();
    me(user, false, { tags });
  }
  refresh(user, { tags });
  pause();
  me(user, true, { tags });
  // Signs the phone out too, so that sessions come and go and none is left.
  const ended = call("DELETE", "/auth/sessions", { tags });
  check(ended, { "sign out elsewhere: the phone": () => (json(ended) || {}).revoked === 1 });
  check(call("GET", "/auth/me", phone), { "the phone: anonymous": isAnonymous });
  logout({ tags });
}
