/** A picture with its faces: boxes on a canvas, and a button on each face for pointer and keyboard. */

import { drawBoxes } from "./boxes.js";
import { button, byId, element, save, stem } from "./dom.js";
import { inWords, showFace, showNoFace } from "./face.js";
import { doubtsAbout } from "./provenance.js";

/** @typedef {import("./service.js").PictureAnswer} PictureAnswer */

export class PictureView {
  #part = byId("picture");
  #canvas = /** @type {HTMLCanvasElement} */ (byId("picture-canvas"));
  #faces = byId("picture-faces");
  #downloads = byId("picture-downloads");
  #panel = byId("face");

  hide() {
    this.#part.hidden = true;
  }

  /**
   * Show a picture and its analysis. A picture that the browser cannot read is shown as boxes on a grey plane.
   * @param {File} file
   * @param {File | null} baseline what its faces were compared with
   * @param {PictureAnswer} answer
   */
  async show(file, baseline, answer) {
    const { width, height } = answer.image;
    this.#canvas.width = width;
    this.#canvas.height = height;
    this.#part.hidden = false;
    const bitmap = await createImageBitmap(file).catch(() => null);
    const unseen = "This browser cannot show the picture; the boxes are right.";
    const notes = [
      bitmap === null ? unseen : "",
      answer.faces.length > 1 ? "Choose a face in the picture to see its numbers." : "",
      baseline === null ? "" : comparedWith(baseline, answer.baseline),
    ];
    byId("picture-name").textContent = file.name;
    byId("picture-note").textContent = notes.filter(Boolean).join(" ");
    const draw = (chosen) => this.#draw(bitmap, answer, chosen);
    this.#faces.replaceChildren(...answer.faces.map((face, i) => this.#faceButton(face, i + 1, answer, draw)));
    this.#offerDownloads(file, answer);
    if (answer.faces.length) this.#choose(answer, 1, draw);
    else {
      draw(null);
      showNoFace(this.#panel, "No face was found in this picture.");
    }
  }

  /**
   * @param {ImageBitmap | null} bitmap
   * @param {PictureAnswer} answer
   * @param {number | null} chosen
   */
  #draw(bitmap, answer, chosen) {
    const context = this.#canvas.getContext("2d");
    if (context === null) return;
    context.fillStyle = "#808080";
    context.fillRect(0, 0, this.#canvas.width, this.#canvas.height);
    if (bitmap !== null) context.drawImage(bitmap, 0, 0, this.#canvas.width, this.#canvas.height);
    const marked = answer.faces.map((face, i) => ({ box: face.box, id: i + 1, reliable: face.quality.reliable }));
    drawBoxes(this.#canvas, marked, chosen);
  }

  /**
   * @param {import("./service.js").Face} face
   * @param {number} id
   * @param {PictureAnswer} answer
   * @param {(chosen: number) => void} draw
   */
  #faceButton(face, id, answer, draw) {
    const made = button("", () => this.#choose(answer, id, draw), { "aria-label": `Face ${id}: ${inWords(face)}` });
    const { width, height } = answer.image;
    made.style.left = `${(100 * face.box.x) / width}%`;
    made.style.top = `${(100 * face.box.y) / height}%`;
    made.style.width = `${(100 * face.box.width) / width}%`;
    made.style.height = `${(100 * face.box.height) / height}%`;
    made.addEventListener("pointerenter", () => this.#choose(answer, id, draw));
    made.addEventListener("focus", () => this.#choose(answer, id, draw));
    return element("li", {}, made);
  }

  /**
   * @param {PictureAnswer} answer
   * @param {number} id
   * @param {(chosen: number) => void} draw
   */
  #choose(answer, id, draw) {
    draw(id);
    showFace(this.#panel, answer.faces[id - 1], answer.model, `Face ${id} of ${answer.faces.length}`);
  }

  /**
   * @param {File} file
   * @param {PictureAnswer} answer
   */
  #offerDownloads(file, answer) {
    const name = stem(file.name);
    const document = new Blob([JSON.stringify(answer, null, 1)], { type: "application/json" });
    const json = () => save(document, `${name}.json`);
    const png = () => this.#canvas.toBlob((content) => content && save(content, `${name}-faces.png`));
    this.#downloads.replaceChildren(button("Answer as JSON", json), button("Picture with boxes", png));
  }
}

/**
 * Return what the faces are compared with, as sentences.
 * @param {File} baseline
 * @param {import("./service.js").Face | undefined} face the face that it shows
 */
function comparedWith(baseline, face) {
  const doubts = face === undefined ? [] : doubtsAbout(face);
  const doubted = doubts.length ? ` Changes may be wrong, because there ${doubts.join(", and ")}.` : "";
  return `Compared with the face in ${baseline.name}.${doubted}`;
}
