/** The page: what a person chooses is analysed and shown, and what goes wrong is told. */

import { byId, element } from "./dom.js";
import { keyField } from "./key.js";
import { PictureView } from "./picture.js";
import { Problem, isStopped } from "./problem.js";
import { withOneRetry } from "./retry.js";
import { Service } from "./service.js";
import { Timeline } from "./timeline.js";
import { VideoView } from "./video.js";
import { Webcam } from "./webcam.js";

const service = new Service();
const timeline = new Timeline((time_s) => video.seek(time_s));
const picture = new PictureView();
const video = new VideoView(timeline);
const webcam = new Webcam(timeline);

/** @type {Record<string, number>} the limits of the service, by the names of its settings */
let limits = {};
let running = new AbortController();
/** What is to be done again once there is a key. */
let again = () => connect();

const askForKey = keyField(service, () => {
  byId("alert").replaceChildren();
  again();
});

/**
 * Do something that takes time, instead of what is being done. It can be stopped, and its problems are shown.
 * @param {string} status a sentence on what is being done
 * @param {(signal: AbortSignal) => Promise<string>} work returns a sentence on what was done
 */
async function perform(status, work) {
  running.abort();
  const mine = new AbortController();
  running = mine;
  again = () => perform(status, work);
  byId("alert").replaceChildren();
  showProgress(status);
  let ending = "";
  try {
    ending = await withOneRetry(() => work(mine.signal), tellWait, mine.signal);
  } catch (error) {
    ending = isStopped(error) ? "Stopped." : "";
    if (!isStopped(error) && running === mine) showProblem(error);
  }
  if (running !== mine) return;
  byId("working").hidden = true;
  byId("status").textContent = ending;
}

/** @param {File} file */
function analyse(file) {
  const isPicture = file.type.startsWith("image/") && file.type !== "image/gif";
  perform(`Analysing ${file.name}.`, (signal) => {
    refuseTooLarge(file);
    return isPicture ? analysePicture(file, signal) : analyseVideo(file, signal);
  });
}

/**
 * @param {File} file
 * @param {AbortSignal} signal
 */
async function analysePicture(file, signal) {
  const baseline = /** @type {HTMLInputElement} */ (byId("baseline")).files?.[0] ?? null;
  const answer = await service.picture(file, baseline, chosenOptions("picture-options"), signal);
  showOnly("picture");
  await picture.show(file, baseline, answer);
  const count = answer.faces.length;
  return count === 1 ? "One face was found." : `${count || "No"} faces were found.`;
}

/**
 * @param {File} file
 * @param {AbortSignal} signal
 */
async function analyseVideo(file, signal) {
  const options = { ...chosenOptions("picture-options"), ...chosenOptions("video-options") };
  const answer = await service.video(file, options, signal);
  showOnly("video");
  video.begin(file, options);
  await video.follow(answer, tellProgress);
  return timeline.track === null ? "The video is analysed. No face was found." : "The video is analysed.";
}

function useCamera() {
  perform("The camera is being analysed.", async (signal) => {
    showOnly("live");
    const rate = Number(/** @type {HTMLInputElement} */ (byId("camera-rate")).value) || 10;
    await webcam.run(service, chosenOptions("picture-options"), rate, showProblem, signal);
    return "The camera is off.";
  });
}

function saveTable() {
  const columns = /** @type {HTMLSelectElement} */ (byId("columns")).value;
  perform("The table is being computed, by a second analysis of the video.", async (signal) => {
    await video.saveTable(service, columns, signal);
    return "The table is saved.";
  });
}

/** @param {File} file */
function refuseTooLarge(file) {
  const most = limits.AFFECT_MAX_UPLOAD_BYTES;
  if (most !== undefined && file.size > most) {
    throw new Problem("Upload too large", `The file has ${file.size} bytes; this service takes up to ${most}.`);
  }
}

/**
 * Return the options of a group that have a value; the service has defaults for the others.
 * @param {string} group
 */
function chosenOptions(group) {
  const fields = /** @type {NodeListOf<HTMLInputElement>} */ (byId(group).querySelectorAll("input, select"));
  const filled = [...fields].filter((field) => field.value !== "");
  return Object.fromEntries(filled.map((field) => [field.name, field.value]));
}

/** @param {"picture" | "video" | "live"} shown */
function showOnly(shown) {
  byId("result").hidden = false;
  if (shown !== "picture") picture.hide();
  if (shown !== "video") video.hide();
  if (shown !== "live") webcam.hide();
  if (shown === "picture") timeline.hide();
}

/** @param {string} status */
function showProgress(status) {
  byId("status").textContent = status;
  byId("countdown").textContent = "";
  byId("progress").removeAttribute("value");
  byId("working").hidden = false;
}

/**
 * @param {number} done_s
 * @param {number | null} duration_s
 */
function tellProgress(done_s, duration_s) {
  const bar = /** @type {HTMLProgressElement} */ (byId("progress"));
  const done = done_s.toFixed(0);
  byId("countdown").textContent = duration_s === null ? `${done} s` : `${done} of ${duration_s.toFixed(0)} s`;
  if (duration_s === null) return;
  bar.max = duration_s;
  bar.value = done_s;
}

/**
 * @param {number} left
 * @param {Problem} problem
 */
function tellWait(left, problem) {
  // It is said once, and counted down for the eye only.
  if (left === problem.retryAfterS) byId("status").textContent = `${problem.title}: trying once more in ${left} s.`;
  byId("countdown").textContent = `${left} s`;
}

/** @param {unknown} error */
function showProblem(error) {
  const problem = error instanceof Problem ? error : new Problem("The page failed", String(error));
  const id = problem.requestId ? [element("p", { class: "note" }, `Request ${problem.requestId}`)] : [];
  const title = element("p", {}, element("strong", {}, problem.title));
  byId("alert").replaceChildren(title, element("p", {}, problem.detail), ...id);
  if (problem.status === 401) askForKey();
}

async function connect() {
  await perform("Connecting to the service.", async () => {
    const told = await service.models();
    limits = told.limits;
    const bundles = told.bundles.map((bundle) => `${bundle.name} ${bundle.version}`).join(", ");
    byId("bundles").textContent = `Weights: ${bundles}. Face detector: ${told.detector}.`;
    byId("fps").setAttribute("placeholder", String(told.video_fps));
    return "";
  });
}

function listen() {
  const chooser = /** @type {HTMLInputElement} */ (byId("file"));
  chooser.addEventListener("change", () => {
    if (chooser.files?.length) analyse(chooser.files[0]);
    chooser.value = ""; // so that the same file can be chosen again
  });
  const drop = byId("drop");
  for (const event of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(event, (dragged) => {
      dragged.preventDefault();
      drop.classList.toggle("over", dragged.type === "dragover");
    });
  }
  drop.addEventListener("drop", (event) => {
    const [file] = event.dataTransfer?.files ?? [];
    if (file) analyse(file);
  });
  byId("forget-baseline").addEventListener("click", () => {
    /** @type {HTMLInputElement} */ (byId("baseline")).value = "";
  });
  byId("camera").addEventListener("click", useCamera);
  byId("stop").addEventListener("click", () => running.abort());
  byId("table").addEventListener("click", saveTable);
  addEventListener("pagehide", () => running.abort());
}

listen();
connect();
