/** The plane of valence and arousal, with a face's place in it. */

import { svg } from "./dom.js";

const CENTRE = 100;
const RADIUS = 78;

/**
 * Return a drawing of a point in the plane.
 * @param {number} valence from -1 to 1, unpleasant to pleasant
 * @param {number} arousal from -1 to 1, calm to excited
 * @returns {SVGElement}
 */
export function circumplex(valence, arousal) {
  const line = (x1, y1, x2, y2) => svg("line", { x1, y1, x2, y2, class: "axis" });
  const word = (x, y, text, anchor) => svg("text", { x, y, "text-anchor": anchor }, text);
  return svg(
    "svg",
    {
      viewBox: "0 0 200 200",
      class: "circumplex",
      role: "img",
      "aria-label": `Valence ${valence.toFixed(2)}, arousal ${arousal.toFixed(2)}`,
    },
    svg("circle", { cx: CENTRE, cy: CENTRE, r: RADIUS, class: "rim" }),
    line(CENTRE - RADIUS, CENTRE, CENTRE + RADIUS, CENTRE),
    line(CENTRE, CENTRE - RADIUS, CENTRE, CENTRE + RADIUS),
    word(CENTRE, 14, "excited", "middle"),
    word(CENTRE, 196, "calm", "middle"),
    word(CENTRE + RADIUS, CENTRE + 16, "pleasant", "end"),
    word(CENTRE - RADIUS, CENTRE + 16, "unpleasant", "start"),
    svg("circle", { cx: CENTRE + RADIUS * valence, cy: CENTRE - RADIUS * arousal, r: 6, class: "point" }),
  );
}
