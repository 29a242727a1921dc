/** Sentences on how far the numbers can be trusted, which stand beside them. */

const REFERENCES = {
  annotated: "Learned from people's annotations",
  derived: "Derived: learned from labels that a rule or another model made, and not compared with people's ratings",
  rendered: "Learned from rendered faces alone",
};

const VALIDATIONS = {
  rendered: "rendered faces",
  teacher: "another model",
  none: "nothing: do not rely on it",
};

const REASONS = {
  small: "it is smaller than 24 pixels",
  blurred: "it is blurred",
  noisy: "it is noisy",
  turned: "it is turned away, or could not be turned upright",
  outside: "much of it is outside of the picture",
};

/**
 * Return where the numbers of a task come from, as a sentence.
 * @param {import("./service.js").TaskInfo | undefined} task
 */
export function originOf(task) {
  if (task === undefined) return "";
  const reference = REFERENCES[task.reference] ?? `Reference: ${task.reference}`;
  const calibration = task.calibrated ? "" : " Not calibrated.";
  return `${reference} (${task.bundle} ${task.version}).${calibration}`;
}

/**
 * Return what bears a unit out, as a few words; empty where that is not known.
 * @param {import("./service.js").UnitInfo | undefined} unit
 */
export function validationOf(unit) {
  if (unit?.validated === undefined) return "";
  const told = VALIDATIONS[unit.validated] ?? unit.validated;
  return unit.r === undefined || unit.validated === "none" ? told : `${told}, r\u00a0${unit.r.toFixed(2)}`;
}

/**
 * Return whether there are reasons to doubt a face's numbers, as a sentence.
 * @param {import("./service.js").Face["quality"]} quality
 */
export function reliabilityOf(quality) {
  if (quality.reliable) return "Size, sharpness, noise and pose give no reason to doubt this face's numbers.";
  const reasons = quality.reasons.map((reason) => REASONS[reason] ?? reason);
  return `Not reliable: measurements showed larger errors for such a face, because ${reasons.join(" and ")}.`;
}

/**
 * Return reasons to doubt that a face shows a person at rest, each a clause.
 * @param {import("./service.js").Face} face
 */
export function doubtsAbout(face) {
  const units = Object.entries(face.action_units ?? {}).filter(([, state]) => state.active);
  const active = units.map(([unit]) => unit).join(", ");
  const reasons = face.quality.reasons.map((reason) => REASONS[reason] ?? reason);
  return [
    ...(face.quality.reliable ? [] : [`the face is not reliable (${reasons.join(" and ")})`]),
    ...(active ? [`${active} ${units.length > 1 ? "are" : "is"} active, so that the face may not be at rest`] : []),
  ];
}

/**
 * Return how well changes of a unit are told of rendered faces; empty where that is not known.
 * @param {import("./service.js").UnitInfo | undefined} unit
 */
export function changeQualityOf(unit) {
  return unit?.change_auroc === undefined ? "" : `AUROC\u00a0${unit.change_auroc.toFixed(2)}`;
}
