/** A panel and plots over what has been seen so far, with the track and the time that a person looks at. */

import { byId, element } from "./dom.js";
import { showFace, showNoFace } from "./face.js";
import { Plots } from "./plots.js";
import { Series } from "./series.js";

/**
 * @typedef {import("./service.js").AnalyzedFrame} AnalyzedFrame
 * @typedef {import("./service.js").Model} Model
 */

export class Timeline {
  series = new Series();
  /** @type {Model} */
  model = { tasks: {} };
  /** @type {number | null} the track that the panel shows */
  track = null;
  #part = byId("timeline");
  #panel = byId("face");
  #choice = /** @type {HTMLSelectElement} */ (byId("track"));
  /** The ids that can be chosen, in words. */
  #offered = "";
  #plots;
  /** True once plots can be drawn, false where the service has no plotly. */
  drawable = Promise.resolve(false);

  /** @param {(time_s: number) => void} onSeek called with the time of a click in the plots */
  constructor(onSeek) {
    this.#plots = new Plots(byId("plots"), onSeek);
    this.#choice.addEventListener("change", () => this.choose(Number(this.#choice.value)));
  }

  get plots() {
    return this.#plots;
  }

  hide() {
    this.#part.hidden = true;
  }

  /** Begin anew, with nothing seen. */
  begin() {
    this.series = new Series();
    this.track = null;
    this.#part.hidden = true; // until there is a track to draw
    this.#choice.replaceChildren();
    this.#offered = "";
    this.#plots.clear();
    showNoFace(this.#panel, "No face has been seen yet.");
    this.drawable = this.#plots.ready();
    this.drawable.then((ready) => {
      byId("plots-note").hidden = ready;
      this.finish();
    });
  }

  /** @param {AnalyzedFrame} frame */
  add(frame) {
    this.series.add(frame);
    this.#offerTracks();
    if (this.track !== null) this.#plots.drawSometimes(this.series, this.track);
  }

  /** Draw all that was added. */
  finish() {
    if (this.track !== null) this.#plots.draw(this.series, this.track);
  }

  /** @param {number} id of a track */
  choose(id) {
    this.track = id;
    this.#choice.value = String(id);
    this.#plots.draw(this.series, id);
  }

  /**
   * Show the chosen track at a time.
   * @param {AnalyzedFrame | null} frame that of this time
   */
  show(frame) {
    const face = frame?.faces.find((each) => each.track_id === this.track);
    const title = `Track ${this.track}`;
    if (frame === null) showNoFace(this.#panel, "This moment has not been analysed.");
    else if (this.track === null) showNoFace(this.#panel, "No face has been seen yet.");
    else if (face === undefined) showNoFace(this.#panel, `${title} is not in the picture now.`);
    else showFace(this.#panel, face, this.model, `${title} at ${frame.time_s.toFixed(2)} s`);
  }

  /** Offer the tracks that there are; where the last one was forgotten, it stays until another face comes. */
  #offerTracks() {
    const ids = [...this.series.tracks.keys()];
    if (ids.length === 0 || String(ids) === this.#offered) return;
    this.#offered = String(ids);
    this.#part.hidden = false;
    this.track ??= ids[0];
    if (!ids.includes(this.track)) this.track = ids[0];
    this.#choice.replaceChildren(...ids.map((id) => element("option", { value: id }, `Track ${id}`)));
    this.#choice.value = String(this.track);
  }
}
