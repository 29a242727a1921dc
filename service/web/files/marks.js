/** Events and excluded ranges, which a person marks in a video. They stay in the page, until they are saved. */

import { button, byId, element } from "./dom.js";

/**
 * @typedef {{kind: "event" | "exclude", start_s: number, end_s: number, label: string}} Mark
 *   An event ends where it starts.
 */

export class Marks {
  /** @type {Mark[]} */
  #marks = [];
  /** @type {number | null} start of the range that is being excluded */
  #beginning = null;
  #label = /** @type {HTMLInputElement} */ (byId("mark-label"));
  #range = byId("mark-range");
  #list = byId("mark-list");
  #onChange;

  /**
   * @param {() => number} now returns the time shown in seconds
   * @param {(marks: Mark[]) => void} onChange
   * @param {(time_s: number) => void} onSeek
   */
  constructor(now, onChange, onSeek) {
    this.#onChange = onChange;
    this.onSeek = onSeek;
    byId("mark-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#add({ kind: "event", start_s: now(), end_s: now(), label: this.#label.value.trim() });
      this.#label.value = "";
    });
    this.#range.addEventListener("click", () => this.#toggleRange(now()));
  }

  clear() {
    this.#marks = [];
    this.#beginning = null;
    this.#changed();
  }

  /** Return the marks as a table, in the order of time. */
  toCsv() {
    const rows = this.#marks.map(({ kind, start_s, end_s, label }) =>
      [kind, seconds(start_s), seconds(end_s), quoted(label)].join(","),
    );
    return ["kind,start_s,end_s,label", ...rows, ""].join("\n");
  }

  /** @param {number} time_s */
  #toggleRange(time_s) {
    if (this.#beginning === null) {
      this.#beginning = time_s;
    } else {
      const [start_s, end_s] = [this.#beginning, time_s].sort((one, other) => one - other);
      this.#beginning = null;
      this.#add({ kind: "exclude", start_s, end_s, label: "" });
    }
    this.#changed();
  }

  /** @param {Mark} mark */
  #add(mark) {
    this.#marks.push(mark);
    this.#marks.sort((one, other) => one.start_s - other.start_s);
    this.#changed();
  }

  #changed() {
    this.#range.textContent =
      this.#beginning === null ? "Exclude from here" : `End the range that begins at ${seconds(this.#beginning)} s`;
    this.#list.replaceChildren(...this.#marks.map((mark) => this.#row(mark)));
    this.#onChange(this.#marks);
  }

  /** @param {Mark} mark */
  #row(mark) {
    const until = mark.kind === "exclude" ? ` to ${seconds(mark.end_s)} s` : "";
    const name = mark.kind === "exclude" ? "excluded" : mark.label || "event";
    const text = `${seconds(mark.start_s)} s${until}: ${name}`;
    const remove = () => {
      this.#marks = this.#marks.filter((other) => other !== mark);
      this.#changed();
    };
    return element(
      "li",
      {},
      button(text, () => this.onSeek(mark.start_s), { class: "plain", title: "Go there" }),
      button("Remove", remove, { "aria-label": `Remove ${text}` }),
    );
  }
}

/** @param {number} value */
function seconds(value) {
  return value.toFixed(3).replace(/\.?0+$/, "");
}

/**
 * Return a text as a cell of a table. A spreadsheet must not take it for a formula.
 * @param {string} text
 */
function quoted(text) {
  const harmless = /^[=+\-@\t]/.test(text) ? `'${text}` : text;
  return /[",\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}
