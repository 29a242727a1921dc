/** Streams of JSON objects, one a line. */

import { Problem } from "./problem.js";

/**
 * Yield the objects of an answer as they arrive, each with its line as it was received.
 * Throws a Problem where the connection breaks, and an AbortError where the request is stopped.
 * @param {Response} response
 * @returns {AsyncGenerator<{value: any, line: string}>}
 */
export async function* objects(response) {
  if (response.body === null) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) yield { value: JSON.parse(line), line: `${line}\n` };
    }
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new Problem("The answer was cut off", "The connection to the service broke before the end.");
  } finally {
    reader.cancel().catch(() => {}); // which fails where the stream itself has failed
  }
}
