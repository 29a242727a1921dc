/** A camera over the live channel: frames go out, and the newest that the service could analyse comes back. */

import { drawBoxes } from "./boxes.js";
import { byId } from "./dom.js";
import { Problem } from "./problem.js";
import { marked } from "./video.js";

const KEPT_S = 60;
const RATE_OVER_MS = 2000;
/** The close code of a channel that was opened without a key, where one is asked for. */
const UNAUTHORIZED = 4401;
const SIZE = { width: 640, height: 480 };

export class Webcam {
  #part = byId("live");
  #player = /** @type {HTMLVideoElement} */ (byId("camera-picture"));
  #overlay = /** @type {HTMLCanvasElement} */ (byId("camera-overlay"));
  #timeline;
  #skipped = 0;
  /** @type {number[]} times of the latest replies, in milliseconds */
  #replies = [];

  /** @param {import("./timeline.js").Timeline} timeline */
  constructor(timeline) {
    this.#timeline = timeline;
  }

  hide() {
    this.#part.hidden = true;
  }

  /**
   * Analyse what the camera sees, until the signal stops it or the channel closes. The camera is off afterwards.
   * @param {import("./service.js").Service} service
   * @param {import("./service.js").Options} options
   * @param {number} rate frames to send in a second
   * @param {(problem: Problem) => void} onProblem called with the problem of a single frame
   * @param {AbortSignal} signal
   */
  async run(service, options, rate, onProblem, signal) {
    const stream = await camera();
    try {
      signal.throwIfAborted(); // the person may have been asked for the camera, and done something else
      this.#player.srcObject = stream;
      this.#skipped = 0;
      this.#replies = [];
      await this.#player.play();
      signal.throwIfAborted();
      this.#overlay.width = this.#player.videoWidth;
      this.#overlay.height = this.#player.videoHeight;
      this.#part.hidden = false;
      this.#timeline.begin();
      const channel = new WebSocket(service.liveAddress(options));
      await this.#converse(channel, service.authorization, rate, onProblem, signal);
    } finally {
      for (const track of stream.getTracks()) track.stop();
      if (this.#player.srcObject === stream) this.#player.srcObject = null;
      this.#timeline.finish();
    }
  }

  /**
   * @param {WebSocket} channel
   * @param {string} authorization the first message, where there is a key
   * @param {number} rate
   * @param {(problem: Problem) => void} onProblem
   * @param {AbortSignal} signal
   */
  #converse(channel, authorization, rate, onProblem, signal) {
    /** @type {ReturnType<typeof setInterval> | undefined} */
    let sending;
    let opened = false;
    return new Promise((resolve, reject) => {
      const stop = () => channel.close();
      signal.addEventListener("abort", stop, { once: true });
      channel.addEventListener("open", () => {
        opened = true;
        if (authorization) channel.send(authorization);
      });
      channel.addEventListener("message", (event) => {
        const told = JSON.parse(event.data);
        if (told.type === "ready") {
          this.#timeline.model = told.model;
          // The service would skip what comes faster.
          const most = told.limits?.AFFECT_LIVE_FPS ?? rate;
          sending ??= setInterval(() => this.#send(channel), 1000 / Math.min(rate, most));
        } else if (told.type === "frame") this.#take(told);
        else if (told.type === "error") onProblem(Problem.told(told));
        byId("live-note").textContent = told.type === "overloaded" ? "The service has no time for frames now." : "";
      });
      channel.addEventListener("close", (event) => {
        clearInterval(sending);
        signal.removeEventListener("abort", stop);
        if (signal.aborted) resolve(undefined);
        else reject(closed(event, opened));
      });
    });
  }

  /** @param {WebSocket} channel */
  #send(channel) {
    // A frame that waits in the browser is old when it arrives.
    if (channel.readyState !== WebSocket.OPEN || channel.bufferedAmount > 0) return;
    const canvas = new OffscreenCanvas(this.#player.videoWidth, this.#player.videoHeight);
    canvas.getContext("2d")?.drawImage(this.#player, 0, 0);
    canvas.convertToBlob({ type: "image/jpeg", quality: 0.85 }).then((frame) => {
      if (channel.readyState === WebSocket.OPEN) channel.send(frame);
    });
  }

  /** @param {import("./service.js").AnalyzedFrame & {skipped: number}} reply */
  #take(reply) {
    const now = performance.now();
    this.#replies = [...this.#replies, now].filter((time) => now - time <= RATE_OVER_MS);
    this.#skipped += reply.skipped;
    const spanMs = Math.max(1, now - this.#replies[0]);
    const gaps = this.#replies.length - 1;
    byId("live-rate").textContent = gaps > 0 ? ((1000 * gaps) / spanMs).toFixed(1) : "";
    byId("live-skipped").textContent = String(this.#skipped);
    this.#timeline.add(reply);
    this.#timeline.series.forget(reply.time_s - KEPT_S);
    this.#timeline.show(reply);
    this.#overlay.getContext("2d")?.clearRect(0, 0, this.#overlay.width, this.#overlay.height);
    drawBoxes(this.#overlay, marked(reply), this.#timeline.track);
  }
}

/** Return the camera's stream. Throws a Problem where there is none to have. */
async function camera() {
  if (navigator.mediaDevices === undefined) {
    throw new Problem("No camera", "Browsers give the camera only to pages of this computer, or over https.");
  }
  try {
    return await navigator.mediaDevices.getUserMedia({ video: SIZE });
  } catch (error) {
    const refused = error instanceof DOMException && error.name === "NotAllowedError";
    throw new Problem("No camera", refused ? "The browser does not let this page use it." : "The browser found none.");
  }
}

/**
 * @param {CloseEvent} event
 * @param {boolean} opened
 */
function closed(event, opened) {
  if (event.code === UNAUTHORIZED) {
    return new Problem("Unauthorized", "The service asks for an API key.", { status: 401 });
  }
  if (opened) return new Problem("The live channel closed", event.reason || "The service or the network ended it.");
  return new Problem(
    "No live channel",
    "It could not be opened: the service has no room for another, or a proxy does not pass WebSockets on.",
  );
}
