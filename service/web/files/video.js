/** A video beside its analysis: the player, the plots that fill as results come, marks and downloads. */

import { drawBoxes, faceAt } from "./boxes.js";
import { button, byId, element, save, stem } from "./dom.js";
import { Marks } from "./marks.js";
import { Problem } from "./problem.js";

/**
 * @typedef {import("./service.js").Service} Service
 * @typedef {import("./service.js").Options} Options
 * @typedef {{file: File, options: Options, lines: string[]}} Analysis
 *   `lines`: the answer as it was received.
 */

export class VideoView {
  #part = byId("video");
  #player = /** @type {HTMLVideoElement} */ (byId("player"));
  #overlay = /** @type {HTMLCanvasElement} */ (byId("player-overlay"));
  #slider = /** @type {HTMLInputElement} */ (byId("moment"));
  #table = /** @type {HTMLButtonElement} */ (byId("table"));
  #marks;
  #timeline;
  #timeS = 0;
  #playable = true;
  /** @type {Analysis | null} */
  #analysis = null;

  /** @param {import("./timeline.js").Timeline} timeline */
  constructor(timeline) {
    this.#timeline = timeline;
    this.#marks = new Marks(
      () => this.#timeS,
      (marks) => this.#timeline.plots.showMarks(marks),
      (time_s) => this.seek(time_s),
    );
    for (const event of ["timeupdate", "seeked"]) {
      this.#player.addEventListener(event, () => this.#moveTo(this.#player.currentTime));
    }
    this.#player.addEventListener("play", () => this.#followPlayer());
    this.#player.addEventListener("error", () => this.#cannotPlay());
    this.#slider.addEventListener("input", () => this.seek(Number(this.#slider.value)));
    byId("player-frame").addEventListener("pointermove", (event) => this.#chooseUnder(event));
    byId("track").addEventListener("change", () => this.#moveTo(this.#timeS));
  }

  hide() {
    this.#part.hidden = true;
    this.#player.pause();
  }

  /**
   * Begin with another video, whose analysis is about to come.
   * @param {File} file
   * @param {Options} options
   */
  begin(file, options) {
    this.#analysis = { file, options, lines: [] };
    this.#part.hidden = false;
    this.#playable = true;
    this.#timeS = 0;
    URL.revokeObjectURL(this.#player.src);
    byId("player-frame").hidden = false;
    byId("video-name").textContent = file.name;
    byId("player-note").textContent = "";
    byId("analysis-note").textContent = "";
    this.#table.disabled = true; // it would end the analysis that has just begun
    byId("summary").replaceChildren();
    byId("downloads").replaceChildren();
    this.#timeline.begin();
    this.#marks.clear();
    this.#player.src = URL.createObjectURL(file);
  }

  /**
   * Take in the objects of the answer as they come. Throws a Problem where it ends with one, or without an end.
   * @param {AsyncGenerator<{value: any, line: string}>} objects
   * @param {(done_s: number, duration_s: number | null) => void} tell called with the progress
   */
  async follow(objects, tell) {
    const analysis = this.#analysis;
    try {
      for await (const { value, line } of objects) {
        analysis?.lines.push(line);
        if (value.type === "video") this.#start(value);
        else if (value.type === "frame") this.#add(value);
        else if (value.type === "progress") tell(value.done_s, value.duration_s ?? null);
        else if (value.type === "error") throw Problem.told(value);
        else if (value.type === "summary") return this.#summarize(value);
      }
    } finally {
      this.#timeline.finish();
      this.#moveTo(this.#timeS);
      const drawable = await this.#timeline.drawable;
      // Otherwise another video has begun meanwhile.
      if (this.#analysis === analysis) this.#offerDownloads(drawable && this.#timeline.track !== null);
    }
    throw new Problem("The answer was cut off", "It ended without a summary; what came before is right.");
  }

  /**
   * Show another moment.
   * @param {number} time_s
   */
  seek(time_s) {
    if (this.#playable) this.#player.currentTime = time_s;
    else this.#moveTo(time_s);
  }

  /** @param {any} told the first object of the answer */
  #start(told) {
    this.#timeline.model = told.model;
    this.#overlay.width = told.video.width;
    this.#overlay.height = told.video.height;
    this.#slider.min = String(told.video.start_s);
    this.#slider.max = String(told.video.start_s + (told.video.duration_s ?? 0));
    if (told.notes) byId("analysis-note").textContent = told.notes.join(" ");
  }

  /** @param {import("./service.js").AnalyzedFrame} frame */
  #add(frame) {
    if (frame.time_s > Number(this.#slider.max)) this.#slider.max = String(frame.time_s);
    const first = this.#timeline.track === null;
    this.#timeline.add(frame);
    if (first && this.#timeline.track !== null) this.#moveTo(this.#timeS);
  }

  /** @param {number} time_s */
  #moveTo(time_s) {
    this.#timeS = time_s;
    this.#slider.value = String(time_s);
    byId("moment-text").textContent = `${time_s.toFixed(2)} s`;
    const frame = this.#timeline.series.near(time_s);
    this.#timeline.plots.moveCursor(time_s);
    this.#timeline.show(frame);
    this.#drawOverlay(frame);
  }

  /** @param {import("./service.js").AnalyzedFrame | null} frame */
  #drawOverlay(frame) {
    this.#overlay.getContext("2d")?.clearRect(0, 0, this.#overlay.width, this.#overlay.height);
    drawBoxes(this.#overlay, marked(frame), this.#timeline.track);
  }

  /** Keep the boxes with the picture while it plays; the player itself tells its time four times a second only. */
  #followPlayer() {
    if (this.#player.paused || this.#player.ended) return;
    this.#drawOverlay(this.#timeline.series.near(this.#player.currentTime));
    requestAnimationFrame(() => this.#followPlayer());
  }

  #cannotPlay() {
    if (this.#part.hidden) return;
    this.#playable = false;
    byId("player-frame").hidden = true;
    byId("player-note").textContent =
      "This browser cannot play the file. It is analysed all the same: move through it by the plots or the slider.";
  }

  /** @param {PointerEvent} event */
  #chooseUnder(event) {
    const scale = this.#overlay.width / this.#overlay.clientWidth;
    const faces = marked(this.#timeline.series.near(this.#timeS));
    const found = faceAt(faces, event.offsetX * scale, event.offsetY * scale);
    if (found === null || found === this.#timeline.track) return;
    this.#timeline.choose(found);
    this.#moveTo(this.#timeS);
  }

  /** @param {any} told the last object of an answer that is whole */
  #summarize(told) {
    const compared = told.tracks.some((track) => track.summary.compared !== undefined);
    const rows = told.tracks.map((track) => {
      const [label, share] = mostFrequent(track.summary.expression_share ?? {});
      const cells = [
        `${track.first_s.toFixed(2)} to ${track.last_s.toFixed(2)} s`,
        track.summary.valence?.mean.toFixed(2) ?? "",
        track.summary.arousal?.mean.toFixed(2) ?? "",
        label && `${label} (${Math.round(100 * share)} %)`,
        ...(compared ? [risesOf(track.summary)] : []),
      ];
      const heading = element("th", { scope: "row" }, `Track ${track.track_id}`);
      return element("tr", {}, heading, ...cells.map((text) => element("td", {}, text)));
    });
    const ending = told.truncated ? ", after which the file is damaged" : "";
    const headings = ["Track", "From, to", "Mean valence", "Mean arousal", "Most frequent expression"];
    if (compared) headings.push("Units that rose most often");
    const head = element("tr", {}, ...headings.map((text) => element("th", { scope: "col" }, text)));
    byId("summary").replaceChildren(
      element("caption", {}, `Summary of ${told.frames_analyzed} analysed frames${ending}`),
      element("thead", {}, head),
      element("tbody", {}, ...rows),
    );
  }

  /** @param {boolean} drawn whether there are plots to save */
  #offerDownloads(drawn) {
    const analysis = this.#analysis;
    if (analysis === null) return;
    this.#table.disabled = false;
    const name = stem(analysis.file.name);
    const plot = (format) => async () => {
      const address = await this.#timeline.plots.image(format);
      element("a", { href: address, download: `${name}.${format}` }).click();
    };
    const ndjson = () => save(new Blob(analysis.lines, { type: "application/x-ndjson" }), `${name}.ndjson`);
    const marks = () => save(new Blob([this.#marks.toCsv()], { type: "text/csv" }), `${name}-marks.csv`);
    byId("downloads").replaceChildren(
      button("NDJSON, as received", ndjson),
      button("Marks (CSV)", marks),
      ...(drawn ? [button("Plots (PNG)", plot("png")), button("Plots (SVG)", plot("svg"))] : []),
    );
  }

  /**
   * Save the table of the video, which the service computes in a second analysis: only so is it the service's own.
   * @param {Service} service
   * @param {string} columns
   * @param {AbortSignal} signal
   */
  async saveTable(service, columns, signal) {
    const analysis = this.#analysis;
    if (analysis === null) return;
    const content = await service.table(analysis.file, { ...analysis.options, columns }, signal);
    save(content, `${stem(analysis.file.name)}.csv`);
  }
}

/**
 * @param {import("./service.js").AnalyzedFrame | null} frame
 * @returns {import("./boxes.js").Marked[]}
 */
export function marked(frame) {
  const faces = frame?.faces ?? [];
  return faces.map((face) => ({ box: face.box, id: face.track_id ?? 0, reliable: face.quality.reliable }));
}

/**
 * @param {Record<string, number>} shares
 * @returns {[string, number]}
 */
function mostFrequent(shares) {
  const ranked = Object.entries(shares).sort((one, other) => other[1] - one[1]);
  return ranked[0] ?? ["", 0];
}

/**
 * Return the units that rose in the largest shares of a track, in words.
 * @param {{compared?: number, rose_share?: Record<string, number>}} summary
 */
function risesOf(summary) {
  if (!summary.compared) return "not compared: it ended before its first seconds were over";
  const ranked = Object.entries(summary.rose_share ?? {})
    .filter(([name, share]) => name.startsWith("AU") && share > 0)
    .sort((one, other) => other[1] - one[1]);
  return ranked.slice(0, 3).map(([name, share]) => `${name} (${Math.round(100 * share)} %)`).join(", ") || "none";
}
