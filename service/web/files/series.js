/** What a video or a camera has shown so far: its frames by time, and a column of values for each track. */

/**
 * @typedef {import("./service.js").AnalyzedFrame} AnalyzedFrame
 * @typedef {import("./service.js").Face} Face
 */

/** Values of one face over time, null where it is not in the picture. */
export class Track {
  /** @type {number[]} seconds */
  times = [];
  /** @type {(number | null)[]} */
  valence = [];
  /** @type {(number | null)[]} */
  arousal = [];
  /** @type {Record<string, (number | null)[]>} by label */
  expression = {};
  /** @type {Record<string, (number | null)[]>} probabilities by unit */
  units = {};
  /** @type {Record<string, (number | null)[]>} the same where the unit is active, else null */
  active = {};
  /** @type {Record<string, (number | null)[]>} by unit, 1 where it rose above its baseline, else 0 or null */
  rose = {};
  /** True while the face is in the picture. */
  present = false;

  /**
   * @param {number} time_s
   * @param {Face} face
   */
  add(time_s, face) {
    const before = this.times.length;
    this.times.push(time_s);
    this.valence.push(face.valence ?? null);
    this.arousal.push(face.arousal ?? null);
    for (const [label, value] of Object.entries(face.expression?.probabilities ?? {})) {
      (this.expression[label] ??= Array(before).fill(null)).push(value);
    }
    for (const [unit, state] of Object.entries(face.action_units ?? {})) {
      (this.units[unit] ??= Array(before).fill(null)).push(state.probability);
      (this.active[unit] ??= Array(before).fill(null)).push(state.active ? state.probability : null);
    }
    for (const [name, { rose }] of Object.entries(face.change ?? {})) {
      (this.rose[name] ??= Array(before).fill(null)).push(rose ? 1 : 0);
    }
    this.present = true;
  }

  /** @param {number} time_s a time at which the face is not in the picture */
  leave(time_s) {
    if (!this.present) return;
    this.times.push(time_s);
    for (const column of this.#columns()) column.push(null);
    this.present = false;
  }

  /** @param {number} time_s time before which values are forgotten */
  forget(time_s) {
    const kept = this.times.findIndex((time) => time >= time_s);
    const count = kept < 0 ? this.times.length : kept;
    for (const column of [this.times, ...this.#columns()]) column.splice(0, count);
  }

  #columns() {
    const named = [this.expression, this.units, this.active, this.rose].flatMap((columns) => Object.values(columns));
    return [this.valence, this.arousal, ...named];
  }
}

export class Series {
  /** @type {AnalyzedFrame[]} in the order of time */
  frames = [];
  /** @type {Map<number, Track>} by id, in the order of their appearance */
  tracks = new Map();

  /** @param {AnalyzedFrame} frame */
  add(frame) {
    this.frames.push(frame);
    for (const face of frame.faces) {
      const id = face.track_id ?? 0;
      if (!this.tracks.has(id)) this.tracks.set(id, new Track());
      this.tracks.get(id)?.add(frame.time_s, face);
    }
    const present = new Set(frame.faces.map((face) => face.track_id));
    for (const [id, track] of this.tracks) if (!present.has(id)) track.leave(frame.time_s);
  }

  /**
   * Forget what was before a time, so that a camera may run for hours.
   * @param {number} time_s
   */
  forget(time_s) {
    const kept = this.frames.findIndex((frame) => frame.time_s >= time_s);
    this.frames.splice(0, Math.max(0, kept));
    for (const [id, track] of this.tracks) {
      track.forget(time_s);
      if (!track.times.length) this.tracks.delete(id);
    }
  }

  /**
   * Return the analysed frame that is nearest to a time, or null where none is within half a second.
   * @param {number} time_s
   */
  near(time_s) {
    let low = 0;
    let high = this.frames.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.frames[middle].time_s < time_s) low = middle + 1;
      else high = middle;
    }
    const around = this.frames.slice(Math.max(0, low - 1), low + 1);
    around.sort((one, other) => Math.abs(one.time_s - time_s) - Math.abs(other.time_s - time_s));
    return around.length && Math.abs(around[0].time_s - time_s) <= 0.5 ? around[0] : null;
  }
}
