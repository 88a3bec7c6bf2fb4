// Many users log in at once, without a cookie, at a rate that does not wait for answers.
import exec from "k6/execution";
import { limits, login, number, seconds, stats } from "./lib.js";

const rate = number("RATE", 500, 1, 20000);
const duration = seconds(30);
const rise = Math.round(duration / 3);

export const options = {
  scenarios: {
    storm: {
      executor: "ramping-arrival-rate",
      startRate: Math.ceil(rate / 10),
      timeUnit: "1s",
      preAllocatedVUs: 100,
      maxVUs: 500,
      stages: [
        { duration: `${rise}s`, target: rate },
        { duration: `${duration - rise}s`, target: rate },
      ],
      gracefulStop: "5s",
    },
  },
  // A request that was not sent in time is not measured, so only few may be missing.
  thresholds: limits(100, 300, { dropped_iterations: [`count<${Math.ceil(rate * duration * 0.01)}`] }),
  summaryTrendStats: stats,
};

// The jar is emptied after each iteration, so no login carries a session.
export default function () {
  login(`storm-${exec.scenario.iterationInTest}`);
}
