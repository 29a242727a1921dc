/** All that is told of one face: expression, valence and arousal, action units, and how far to trust them. */

import { circumplex } from "./circumplex.js";
import { element } from "./dom.js";
import { changeQualityOf, originOf, reliabilityOf, validationOf } from "./provenance.js";

/**
 * @typedef {import("./service.js").Face} Face
 * @typedef {import("./service.js").Model} Model
 */

/**
 * Show a face in a panel, instead of what it showed.
 * @param {HTMLElement} panel
 * @param {Face} face
 * @param {Model} model what computed it
 * @param {string} title
 */
export function showFace(panel, face, model, title) {
  const told = face.quality.reliable ? "note" : "note warning";
  const parts = [element("h3", {}, title), element("p", { class: told }, reliabilityOf(face.quality))];
  const beside = element("div", { class: "beside" });
  if (face.expression !== undefined) beside.append(expressionPart(face.expression, model.tasks.expression));
  if (face.valence !== undefined && face.arousal !== undefined) {
    beside.append(valencePart(face.valence, face.arousal, model.tasks.valence_arousal));
  }
  parts.push(beside);
  if (face.action_units !== undefined) parts.push(unitsPart(face.action_units, model.tasks.action_units));
  if (face.eyes_closed !== undefined) parts.push(eyesPart(face.eyes_closed, model.tasks.eyes_closed));
  if (face.change !== undefined) parts.push(changesPart(face.change, model));
  panel.replaceChildren(...parts);
}

/**
 * Say in a panel that it shows no face.
 * @param {HTMLElement} panel
 * @param {string} why a sentence
 */
export function showNoFace(panel, why) {
  panel.replaceChildren(element("p", {}, why));
}

/**
 * Return a face in a few words, for those who hear the page.
 * @param {Face} face
 */
export function inWords(face) {
  const parts = [];
  if (face.expression !== undefined) {
    const { label, probabilities } = face.expression;
    parts.push(`${label} ${probabilities[label].toFixed(2)}`);
  }
  if (face.valence !== undefined) parts.push(`valence ${face.valence.toFixed(2)}`);
  if (face.arousal !== undefined) parts.push(`arousal ${face.arousal.toFixed(2)}`);
  if (!face.quality.reliable) parts.push("not reliable");
  return parts.join(", ");
}

/**
 * @param {NonNullable<Face["expression"]>} expression
 * @param {import("./service.js").TaskInfo | undefined} task
 */
function expressionPart(expression, task) {
  const rows = Object.entries(expression.probabilities).map(([label, value]) =>
    element(
      "tr",
      { class: label === expression.label ? "chosen" : "" },
      element("th", { scope: "row" }, label),
      element("td", { class: "number" }, value.toFixed(2)),
      element("td", {}, bar(value)),
    ),
  );
  return part("Expression", originOf(task), table("Expression", ["Label", "Probability", ""], rows));
}

/**
 * @param {number} valence
 * @param {number} arousal
 * @param {import("./service.js").TaskInfo | undefined} task
 */
function valencePart(valence, arousal, task) {
  const numbers = `Valence ${valence.toFixed(2)}, arousal ${arousal.toFixed(2)}, each from -1 to 1.`;
  return part("Valence and arousal", originOf(task), element("p", {}, numbers), circumplex(valence, arousal));
}

/**
 * @param {NonNullable<Face["action_units"]>} units
 * @param {import("./service.js").TaskInfo | undefined} task
 */
function unitsPart(units, task) {
  const rows = Object.entries(units).map(([unit, state]) => {
    const info = task?.units?.[unit];
    const doubted = info?.validated === "none";
    return element(
      "tr",
      { class: state.active ? "chosen" : "" },
      element("th", { scope: "row" }, ...unitName(unit, info)),
      element("td", { class: "number" }, state.probability.toFixed(2)),
      element("td", { class: "number" }, info === undefined ? "" : info.threshold.toFixed(2)),
      element("td", {}, state.active ? "active" : "no"),
      element("td", {}, bar(state.probability, info?.threshold)),
      element("td", { class: doubted ? "warning" : "" }, validationOf(info)),
    );
  });
  const headings = ["Unit", "Probability", "Threshold", "Active", "", "Borne out by"];
  const meaning = "A probability that the unit is present, not an intensity.";
  return part("Action units", `${originOf(task)} ${meaning}`, table("Action units", headings, rows, "units"));
}

/**
 * @param {NonNullable<Face["eyes_closed"]>} eyes
 * @param {import("./service.js").TaskInfo | undefined} task
 */
function eyesPart(eyes, task) {
  const threshold = task?.threshold === undefined ? "" : ` Closed from ${task.threshold.toFixed(2)} on.`;
  const told = `${eyes.active ? "Closed" : "Open"}: probability of closed eyes ${eyes.probability.toFixed(2)}.${threshold}`;
  return part("Eyes", originOf(task), element("p", {}, told));
}

/**
 * @param {NonNullable<Face["change"]>} changes
 * @param {Model} model
 */
function changesPart(changes, model) {
  const units = model.tasks.action_units?.units;
  const rows = Object.entries(changes).map(([name, { value, rose }]) =>
    element(
      "tr",
      { class: rose ? "chosen" : "" },
      element("th", { scope: "row" }, ...(units?.[name] ? unitName(name, units[name]) : [name])),
      element("td", { class: "number" }, signed(value)),
      element("td", {}, rose === undefined ? "" : rose ? "rose" : "no"),
      element("td", {}, changeQualityOf(units?.[name])),
    ),
  );
  const meaning =
    "Against the same person at rest. Rose: by more than 95 % of rendered faces at rest do by themselves; " +
    "AUROC: how well movements of rendered faces are told.";
  const origin = originOf(model.tasks.unit_changes ?? model.tasks.action_units ?? model.tasks.valence_arousal);
  return part("Change", `${origin} ${meaning}`, table("Change", ["Of", "Difference", "Rose", "On rendered faces"], rows));
}

/**
 * @param {string} unit
 * @param {import("./service.js").UnitInfo | undefined} info
 */
function unitName(unit, info) {
  return [element("b", {}, unit), ` ${info?.name ?? ""}`];
}

/** @param {number} value */
function signed(value) {
  return `${value < 0 ? "\u2212" : "+"}${Math.abs(value).toFixed(2)}`;
}

/**
 * @param {string} title
 * @param {string} note
 * @param {...Node} content
 */
function part(title, note, ...content) {
  return element("section", {}, element("h4", {}, title), ...content, element("p", { class: "note" }, note));
}

/**
 * @param {string} caption
 * @param {string[]} headings one that is empty stands above a drawing of the number beside it
 * @param {Node[]} rows
 * @param {string} style class of the table
 */
function table(caption, headings, rows, style = "") {
  const cells = headings.map((text) =>
    text ? element("th", { scope: "col" }, text) : element("td", { class: "drawing" }),
  );
  return element(
    "table",
    { class: style },
    element("caption", { class: "unseen" }, caption),
    element("thead", {}, element("tr", {}, ...cells)),
    element("tbody", {}, ...rows),
  );
}

/**
 * Return a drawing of a probability, with a line at the threshold; the number stands beside it.
 * @param {number} value
 * @param {number} [threshold]
 */
function bar(value, threshold) {
  const fill = element("span", { class: "fill" });
  fill.style.width = `${100 * value}%`;
  const made = element("span", { class: "bar", "aria-hidden": "true" }, fill);
  if (threshold !== undefined) {
    const line = element("span", { class: "threshold" });
    line.style.left = `${100 * threshold}%`;
    made.append(line);
  }
  return made;
}
