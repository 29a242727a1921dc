/** One further attempt where the service says when to come back. */

import { Problem } from "./problem.js";

const LONGEST_S = 120;

/**
 * Return what an attempt returns. Where it fails with a Problem that names seconds to wait, it is made once more then.
 * @template T
 * @param {() => Promise<T>} attempt
 * @param {(secondsLeft: number, problem: Problem) => void} tell called every second of the wait, first with all of them
 * @param {AbortSignal} signal ends the wait
 * @returns {Promise<T>}
 */
export async function withOneRetry(attempt, tell, signal) {
  try {
    return await attempt();
  } catch (problem) {
    if (!(problem instanceof Problem) || problem.retryAfterS === null || problem.retryAfterS > LONGEST_S) throw problem;
    for (let left = problem.retryAfterS; left > 0; left -= 1) {
      tell(left, problem);
      await second(signal);
    }
    return attempt();
  }
}

/** @param {AbortSignal} signal */
function second(signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve(undefined);
    }, 1000);
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
  });
}
