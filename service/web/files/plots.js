/** Plots over time: valence and arousal of all tracks, expressions and action units of one of them. */

import { colourOf, dashOf, themed } from "./colours.js";

/**
 * @typedef {import("./series.js").Series} Series
 * @typedef {import("./marks.js").Mark} Mark
 */

const ROWS = { valence: [0.87, 1], arousal: [0.71, 0.84], expression: [0.46, 0.68], units: [0, 0.43] };
/** Height of a probability of 1 in the row of its unit, whose height is 1. */
const ROW_SHARE = 0.85;
const LEAST_PAUSE_MS = 400;
const ACTIVE = "#d55e00";
const ROSE = "#009e73";
/** Depth below the row of a unit at which it is told where the unit rose. */
const ROSE_DEPTH = 0.07;
const IMAGE = { width: 1200, height: 1000 };

/** @type {Promise<any> | null} */
let loading = null;

/**
 * Return plotly, which is fetched when it is first needed; null where the service has none.
 * @returns {Promise<any>}
 */
export function plotly() {
  loading ??= new Promise((resolve) => {
    const script = document.createElement("script");
    script.src = "page/plotly.min.js";
    script.addEventListener("load", () => resolve(Reflect.get(globalThis, "Plotly")));
    script.addEventListener("error", () => resolve(null));
    document.head.append(script);
  });
  return loading;
}

export class Plots {
  /** @type {any} */
  #plotly = null;
  #container;
  #onSeek;
  #revision = 0;
  #nextMs = 0;
  #timeS = 0;
  /** @type {Mark[]} */
  #marks = [];
  #drawn = false;

  /**
   * @param {HTMLElement} container
   * @param {(time_s: number) => void} onSeek called with the time of a click
   */
  constructor(container, onSeek) {
    this.#container = container;
    this.#onSeek = onSeek;
  }

  /** Return true once plots can be drawn; false where the service has no plotly. */
  async ready() {
    this.#plotly = await plotly();
    return this.#plotly !== null;
  }

  clear() {
    if (this.#drawn) this.#plotly.purge(this.#container);
    this.#drawn = false;
    this.#timeS = 0;
    this.#marks = [];
    this.#nextMs = 0;
  }

  /**
   * Draw unless it was done a moment ago: so the time spent on drawing stays a fifth of all, however long a video is.
   * @param {Series} series
   * @param {number | null} trackId the track whose expressions and units are shown
   */
  drawSometimes(series, trackId) {
    if (performance.now() >= this.#nextMs) this.draw(series, trackId);
  }

  /**
   * @param {Series} series
   * @param {number | null} trackId
   */
  draw(series, trackId) {
    if (this.#plotly === null) return;
    const started = performance.now();
    const track = trackId === null ? undefined : series.tracks.get(trackId);
    const layout = this.#layout(trackId, Object.keys(track?.units ?? {}));
    this.#plotly.react(this.#container, traces(series, track), layout, {
      displayModeBar: false,
      responsive: true,
    });
    if (!this.#drawn) {
      const plot = /** @type {any} */ (this.#container);
      plot.on("plotly_click", (event) => this.#onSeek(event.points[0].x));
    }
    this.#drawn = true;
    const tookMs = performance.now() - started;
    this.#nextMs = performance.now() + Math.max(LEAST_PAUSE_MS, 4 * tookMs);
  }

  /** @param {number} time_s */
  moveCursor(time_s) {
    this.#timeS = time_s;
    if (this.#drawn) this.#plotly.relayout(this.#container, { "shapes[0].x0": time_s, "shapes[0].x1": time_s });
  }

  /** @param {Mark[]} marks */
  showMarks(marks) {
    this.#marks = marks;
    if (!this.#drawn) return;
    this.#plotly.relayout(this.#container, { shapes: this.#shapes(), annotations: this.#annotations() });
  }

  /**
   * Return the plots as the address of a picture that holds its own data.
   * @param {"png" | "svg"} format
   * @returns {Promise<string>}
   */
  image(format) {
    return this.#plotly.toImage(this.#container, { format, ...IMAGE, scale: format === "png" ? 2 : 1 });
  }

  /**
   * @param {number | null} trackId
   * @param {string[]} units names of the rows of units, from above
   */
  #layout(trackId, units) {
    const whose = trackId === null ? "" : `, track ${trackId}`;
    const narrow = this.#container.clientWidth < 600;
    const axis = { gridcolor: themed("line"), zerolinecolor: themed("line"), fixedrange: true };
    const legend = narrow ? { orientation: "h", y: -0.08 } : { x: 1.02, y: 1 };
    const secondLegend = narrow ? { orientation: "h", y: -0.16 } : { x: 1.02, y: ROWS.expression[1] };
    this.#revision += 1;
    return {
      datarevision: this.#revision,
      uirevision: "same",
      height: narrow ? 900 : 800,
      margin: { l: narrow ? 52 : 64, r: narrow ? 10 : 120, t: 10, b: 40 },
      paper_bgcolor: themed("plane"),
      plot_bgcolor: themed("plane"),
      font: { color: themed("ink"), family: "system-ui, sans-serif", size: 12 },
      hovermode: "x unified",
      showlegend: true,
      legend,
      legend2: secondLegend,
      xaxis: { ...axis, fixedrange: false, title: { text: "Time (s)" }, anchor: "y4" },
      yaxis: { ...axis, domain: ROWS.valence, range: [-1.05, 1.05], title: { text: "Valence" } },
      yaxis2: { ...axis, domain: ROWS.arousal, range: [-1.05, 1.05], title: { text: "Arousal" } },
      yaxis3: { ...axis, domain: ROWS.expression, range: [-0.02, 1.02], title: { text: `Expression${whose}` } },
      yaxis4: {
        ...axis,
        domain: ROWS.units,
        range: [-0.4, Math.max(1, units.length)],
        title: { text: `Units${whose}`, standoff: 8 },
        automargin: true,
        tickvals: units.map((_, i) => units.length - 1 - i),
        ticktext: units,
        zeroline: false,
      },
      shapes: this.#shapes(),
      annotations: this.#annotations(),
    };
  }

  #shapes() {
    const whole = { yref: "paper", y0: 0, y1: 1 };
    const line = (time, colour, dash, width) => ({
      ...whole,
      type: "line",
      x0: time,
      x1: time,
      line: { color: colour, dash, width },
    });
    const plane = ({ start_s, end_s }) => ({
      ...whole,
      type: "rect",
      x0: start_s,
      x1: end_s,
      fillcolor: "#808080",
      opacity: 0.35,
      line: { width: 0 },
    });
    const marks = this.#marks.map((mark) =>
      mark.kind === "event" ? line(mark.start_s, themed("ink"), "dot", 1) : plane(mark),
    );
    return [line(this.#timeS, themed("accent"), "solid", 2), ...marks];
  }

  #annotations() {
    return this.#marks.map((mark) => ({
      x: mark.start_s,
      y: 1,
      yref: "paper",
      xanchor: "left",
      showarrow: false,
      text: plain(mark.label || mark.kind),
    }));
  }
}

/**
 * Return the lines of a series.
 * @param {Series} series
 * @param {import("./series.js").Track | undefined} shown the track whose expressions and units are among them
 */
function traces(series, shown) {
  const made = [];
  for (const [id, track] of series.tracks) {
    const name = `track ${id}`;
    const line = { x: track.times, mode: "lines", name, legendgroup: name, line: { color: colourOf(id) } };
    made.push({ ...line, y: track.valence, yaxis: "y" }, { ...line, y: track.arousal, yaxis: "y2", showlegend: false });
  }
  if (shown === undefined) return made;
  Object.entries(shown.expression).forEach(([label, values], i) => {
    const line = { color: colourOf(i + 1), dash: dashOf(i + 1) };
    made.push({ x: shown.times, y: values, mode: "lines", name: label, line, yaxis: "y3", legend: "legend2" });
  });
  return [...made, ...unitTraces(shown)];
}

/**
 * Return a line for each unit in a row of its own, the first one on top, thick where the unit is active, and another
 * one below the row where it rose.
 * @param {import("./series.js").Track} track
 */
function unitTraces(track) {
  const units = Object.keys(track.units);
  return units.flatMap((unit, i) => {
    const bottom = units.length - 1 - i;
    const heights = (column) => column.map((value) => (value === null ? null : bottom + ROW_SHARE * value));
    const row = { x: track.times, mode: "lines", yaxis: "y4", showlegend: false };
    const line = { ...row, y: heights(track.units[unit]), name: unit, line: { color: themed("fill"), width: 1.5 } };
    const active = { ...row, y: heights(track.active[unit]), hoverinfo: "skip", line: { color: ACTIVE, width: 4 } };
    const rises = (track.rose[unit] ?? []).map((value) => (value ? bottom - ROSE_DEPTH : null));
    const rose = { ...row, y: rises, hoverinfo: "skip", line: { color: ROSE, width: 4 } };
    return [{ ...line, customdata: track.units[unit], hovertemplate: "%{customdata:.2f}" }, active, rose];
  });
}

/**
 * Return a text in which plotly finds no markup.
 * @param {string} text
 */
function plain(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
