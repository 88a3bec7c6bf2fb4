// A day in a minute, as an open model: requests arrive at a rate, whether or not the ones before were answered. There are
// readers, with two spikes of four times their rate, and people who log in, who refresh, and who log out and in again.
import exec from "k6/execution";
import { limits, login, logout, me, number, once, refresh, seconds, stats, within } from "./lib.js";

const rate = number("RATE", 300, 20, 20000);
const duration = seconds(60);
const part = (share) => `${Math.max(1, Math.round(duration * share))}s`;

function steady(share, f) {
  return {
    executor: "constant-arrival-rate",
    rate: Math.ceil(rate * share),
    timeUnit: "1s",
    duration: `${duration}s`,
    preAllocatedVUs: 20,
    maxVUs: 200,
    exec: f,
    gracefulStop: "5s",
  };
}

export const options = {
  scenarios: {
    readers: {
      executor: "ramping-arrival-rate",
      startRate: Math.ceil(rate / 4),
      timeUnit: "1s",
      preAllocatedVUs: 100,
      maxVUs: 600,
      exec: "readers",
      gracefulStop: "5s",
      stages: [
        { duration: part(0.2), target: rate },
        { duration: part(0.02), target: rate * 4 },
        { duration: part(0.1), target: rate * 4 },
        { duration: part(0.02), target: rate },
        { duration: part(0.3), target: rate },
        { duration: "0s", target: rate * 4 },
        { duration: part(0.1), target: rate * 4 },
        { duration: part(0.02), target: rate },
        { duration: part(0.24), target: rate / 4 },
      ],
    },
    comers: steady(0.05, "comers"),
    rotators: steady(0.05, "rotators"),
    goers: steady(0.03, "goers"),
  },
  noCookiesReset: true, // each virtual user keeps its own cookie
  thresholds: limits(100, 300, {
    "http_req_duration{scenario:readers}": within(100, 300),
    "http_req_duration{scenario:comers}": within(100, 300),
    "http_req_duration{scenario:rotators}": within(100, 300),
    "http_req_duration{scenario:goers}": within(100, 300),
    dropped_iterations: [`count<${Math.ceil(rate * duration * 0.01)}`],
  }),
  summaryTrendStats: stats,
};

const own = () => `mixed-${exec.vu.idInTest}`;

// The virtual users are not bound to a scenario: whether this one's session was refreshed is remembered beside its cookie.
let refreshed = false;

function loggedIn() {
  once(() => login(own()));
}

export function readers() {
  loggedIn();
  me(own(), refreshed);
}

// comers log in with the cookie that an earlier iteration has left, if any; the login ends that session.
export function comers() {
  once(() => {});
  login(own());
  refreshed = false;
}

export function rotators() {
  loggedIn();
  refresh(own());
  refreshed = true;
}

export function goers() {
  loggedIn();
  logout();
  login(own());
  refreshed = false;
}
