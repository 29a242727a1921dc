/** Boxes of faces, drawn over a picture. */

import { colourOf } from "./colours.js";

/**
 * @typedef {import("./service.js").Box} Box
 * @typedef {{box: Box, id: number, reliable: boolean}} Marked a face and the number that it is called by
 */

/**
 * Draw the boxes and ids of faces; one that is not reliable is dashed.
 * @param {HTMLCanvasElement} canvas its size is the picture's, in pixels
 * @param {Marked[]} faces
 * @param {number | null} chosen id of the face that is shown beside the picture
 */
export function drawBoxes(canvas, faces, chosen) {
  const context = canvas.getContext("2d");
  if (context === null) return;
  // A canvas is shown smaller or larger than it is; lines and letters are to have the same size on the screen.
  const unit = canvas.width / (canvas.clientWidth || canvas.width);
  context.font = `bold ${15 * unit}px system-ui, sans-serif`;
  context.textBaseline = "bottom";
  for (const { box, id, reliable } of faces) {
    const width = (id === chosen ? 4 : 2.5) * unit;
    context.setLineDash(reliable ? [] : [6 * unit, 4 * unit]);
    for (const [style, thickness] of [["#ffffff", width + 2 * unit], [colourOf(id), width]]) {
      context.strokeStyle = style;
      context.lineWidth = thickness;
      context.strokeRect(box.x, box.y, box.width, box.height);
    }
    context.setLineDash([]);
    drawId(context, box, id, unit);
  }
}

/**
 * Return the id of the face at a point, the smallest where several are; null where there is none.
 * @param {Marked[]} faces
 * @param {number} x
 * @param {number} y
 */
export function faceAt(faces, x, y) {
  const inside = faces.filter(
    ({ box }) => x >= box.x && y >= box.y && x <= box.x + box.width && y <= box.y + box.height,
  );
  inside.sort((one, other) => one.box.width * one.box.height - other.box.width * other.box.height);
  return inside.length ? inside[0].id : null;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Box} box
 * @param {number} id
 * @param {number} unit
 */
function drawId(context, box, id, unit) {
  const text = String(id);
  const width = context.measureText(text).width + 10 * unit;
  const height = 21 * unit;
  const top = Math.max(0, box.y - height);
  context.fillStyle = "#ffffff";
  context.fillRect(box.x, top, width, height);
  context.strokeStyle = colourOf(id);
  context.lineWidth = 2 * unit;
  context.strokeRect(box.x, top, width, height);
  context.fillStyle = "#111111";
  context.fillText(text, box.x + 5 * unit, top + height - 2 * unit);
}
