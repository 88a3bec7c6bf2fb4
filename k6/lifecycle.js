// A visit: login, ten times me, refresh, ten times me, logout, with time to think in between.
import { check, sleep } from "k6";
import exec from "k6/execution";
import { call, isAnonymous, json, limits, login, logout, me, number, refresh, seconds, stats, within } from "./lib.js";

const think = number("THINK", 0.1, 0, 60); // seconds on average

export const options = {
  scenarios: {
    visits: { executor: "constant-vus", vus: number("VUS", 50, 1, 2000), duration: `${seconds(30)}s`, gracefulStop: "30s" },
  },
  thresholds: limits(50, 200, {
    "http_req_duration{name:POST /auth/login}": within(100, 300),
    "http_req_duration{name:POST /auth/refresh}": within(100, 300),
    "http_req_duration{name:POST /auth/logout}": within(100, 300),
  }),
  summaryTrendStats: stats,
};

const pause = () => sleep(think * 2 * Math.random());

// look asks for the session ten times; it must stay the one that the last login or refresh showed.
function look(user, refreshed, id) {
  for (let i = 0; i < 10; i++) {
    pause();
    const res = me(user, refreshed);
    check(res, { "me: the same session": () => (json(res) || {}).session_id === id });
  }
}

export default function () {
  const user = `visitor-${exec.vu.idInTest}`;
  const began = login(user);
  look(user, false, (json(began) || {}).session_id);
  const rotated = refresh(user);
  look(user, true, (json(rotated) || {}).session_id);
  pause();
  logout();
  check(call("GET", "/auth/me"), { "me after logout: anonymous": isAnonymous });
}
