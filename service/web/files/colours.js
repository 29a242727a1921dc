/** Colours that people with any colour vision tell apart (Okabe and Ito, https://jfly.uni-koeln.de/color/). */

const OKABE_ITO = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d00", "#666666"];
const DASHES = ["solid", "dash", "dot", "dashdot"];

/**
 * Return the colour of a track or a face.
 * @param {number} id from 1
 */
export function colourOf(id) {
  return OKABE_ITO[(id - 1) % OKABE_ITO.length];
}

/**
 * Return the dash of a line, which tells apart lines that colour alone would not.
 * @param {number} id from 1
 */
export function dashOf(id) {
  return DASHES[Math.floor((id - 1) / OKABE_ITO.length + (id - 1)) % DASHES.length];
}

/**
 * Return a colour of the page, as its style sheet and the person's choice of light or dark have it.
 * @param {string} name of the custom property, without its dashes
 */
export function themed(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
