/** The service behind the page: its routes, its API key, and what its answers look like. */

import { objects } from "./ndjson.js";
import { Problem } from "./problem.js";

/**
 * @typedef {{x: number, y: number, width: number, height: number}} Box pixels of the upright picture
 * @typedef {{probability: number, active: boolean}} UnitState
 * @typedef {{value: number, rose?: boolean}} Change of valence, arousal or a unit, against the same person at rest
 * @typedef {{
 *   box: Box, detection_confidence: number, track_id?: number,
 *   quality: {face_px: number, sharpness: number, reliable: boolean, reasons: string[]},
 *   valence?: number, arousal?: number,
 *   expression?: {label: string, probabilities: Record<string, number>},
 *   action_units?: Record<string, UnitState>,
 *   eyes_closed?: UnitState,
 *   change?: Record<string, Change>,
 * }} Face
 * @typedef {{
 *   name: string, threshold: number, validated?: string, r?: number, auroc?: number, reference?: string,
 *   change_r?: number, change_auroc?: number,
 * }} UnitInfo
 * @typedef {{
 *   bundle: string, version: string, reference: string, calibrated: boolean, units?: Record<string, UnitInfo>,
 *   threshold?: number,
 * }} TaskInfo
 * @typedef {{tasks: Record<string, TaskInfo>}} Model
 * @typedef {{model: Model, image: {width: number, height: number}, faces: Face[], baseline?: Face}} PictureAnswer
 * @typedef {{time_s: number, frame: number, faces: Face[]}} AnalyzedFrame
 * @typedef {Record<string, string>} Options query parameters of the analysis
 */

/** The service that the page comes from. */
export class Service {
  /** It is kept in this page's memory only, and forgotten with it. */
  #key = "";

  /** @param {string} key */
  set key(key) {
    this.#key = key.trim();
  }

  /** The first message of a live channel. */
  get authorization() {
    return this.#key && JSON.stringify({ authorization: `Bearer ${this.#key}` });
  }

  /**
   * Return the address of the live channel.
   * @param {Options} options
   */
  liveAddress(options) {
    const address = new URL("live", document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    address.search = new URLSearchParams(options).toString();
    return address.href;
  }

  /**
   * Send a request. Throws a Problem unless it succeeds, or an AbortError where it is stopped.
   * @param {string} path relative to the page
   * @param {RequestInit} options
   * @returns {Promise<Response>}
   */
  async request(path, options = {}) {
    const response = await this.answer(path, options);
    if (!response.ok) throw await Problem.of(response);
    return response;
  }

  /**
   * Send a request, and return the answer whatever its status. Throws a Problem where there is none.
   * @param {string} path
   * @param {RequestInit} options
   */
  async answer(path, options = {}) {
    const headers = new Headers(options.headers);
    if (this.#key) headers.set("Authorization", `Bearer ${this.#key}`);
    try {
      return await fetch(path, { ...options, headers, cache: "no-store" });
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      throw new Problem("No answer", "The connection to the service broke, or it does not run.");
    }
  }

  /** Return what is at /models: bundles, limits and defaults. */
  async models() {
    return (await this.request("models")).json();
  }

  /**
   * Return the analysis of a picture.
   * @param {File} file
   * @param {File | null} baseline a picture of the same person at rest, to compare with
   * @param {Options} options
   * @param {AbortSignal} signal
   * @returns {Promise<PictureAnswer>}
   */
  async picture(file, baseline, options, signal) {
    const files = baseline === null ? { file } : { file, baseline };
    const response = await this.#upload("analyze/frame", files, options, "application/json", signal);
    return response.json();
  }

  /**
   * Return the analysis of a video as a stream of objects, each with the line that it was read from.
   * To stop it stops the work at the service too.
   * @param {File} file
   * @param {Options} options
   * @param {AbortSignal} signal
   */
  async video(file, options, signal) {
    const response = await this.#upload("analyze/video", { file }, options, "application/x-ndjson", signal);
    return objects(response);
  }

  /**
   * Return the analysis of a video as a table, byte for byte as the service writes it.
   * @param {File} file
   * @param {Options} options
   * @param {AbortSignal} signal
   */
  async table(file, options, signal) {
    const response = await this.#upload("analyze/video", { file }, options, "text/csv", signal);
    return response.blob();
  }

  /**
   * @param {string} path
   * @param {Record<string, File>} files by the names of their parts of the form
   * @param {Options} options
   * @param {string} accept
   * @param {AbortSignal} signal
   */
  #upload(path, files, options, accept, signal) {
    const form = new FormData();
    for (const [name, file] of Object.entries(files)) form.append(name, file);
    const query = new URLSearchParams(options).toString();
    return this.request(query ? `${path}?${query}` : path, {
      method: "POST",
      body: form,
      headers: { Accept: accept },
      signal,
    });
  }
}
