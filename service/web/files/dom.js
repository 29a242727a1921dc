/** Elements of the page: how they are found and made. Text is always set as text, never read as HTML. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Return the element with an id.
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no element ${id}`);
  return found;
}

/**
 * Return a new element. An attribute whose value is `false` is left out, and one that is `true` stays empty.
 * @param {string} tag
 * @param {Record<string, string | number | boolean>} attributes
 * @param {...(Node | string)} children
 * @returns {HTMLElement}
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  setAttributes(made, attributes);
  made.append(...children);
  return made;
}

/**
 * Return a new element of SVG.
 * @param {string} tag
 * @param {Record<string, string | number | boolean>} attributes
 * @param {...(Node | string)} children
 * @returns {SVGElement}
 */
export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  setAttributes(made, attributes);
  made.append(...children);
  return made;
}

/**
 * Return a new button.
 * @param {string} label
 * @param {() => void} onClick
 * @param {Record<string, string | number | boolean>} attributes
 * @returns {HTMLElement}
 */
export function button(label, onClick, attributes = {}) {
  const made = element("button", { type: "button", ...attributes }, label);
  made.addEventListener("click", onClick);
  return made;
}

/**
 * Hand a file to the person, as a download.
 * @param {Blob} content
 * @param {string} name
 */
export function save(content, name) {
  const address = URL.createObjectURL(content);
  element("a", { href: address, download: name }).click();
  // The download has begun when the browser has returned to its own work.
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/**
 * Return a file's name without its ending.
 * @param {string} name
 */
export function stem(name) {
  return name.replace(/\.[^.]*$/, "") || "result";
}

/**
 * @param {Element} target
 * @param {Record<string, string | number | boolean>} attributes
 */
function setAttributes(target, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false) target.setAttribute(name, value === true ? "" : String(value));
  }
}
