// GET /auth/me as fast as it goes, each virtual user with a live session of its own.
import exec from "k6/execution";
import { limits, login, me, number, once, seconds, stats, within } from "./lib.js";

export const options = {
  scenarios: {
    readers: { executor: "constant-vus", vus: number("VUS", 32, 1, 1000), duration: `${seconds(30)}s`, gracefulStop: "5s" },
  },
  noCookiesReset: true, // a virtual user stays logged in from one iteration to the next
  thresholds: limits(50, 150, { "http_req_duration{name:GET /auth/me}": within(50, 150) }),
  summaryTrendStats: stats,
};

export default function () {
  const user = `hot-${exec.vu.idInTest}`;
  once(() => login(user));
  me(user);
}
