/** The field for an API key, which appears where the service asks for one. */

import { byId } from "./dom.js";

/**
 * Connect the field with the service.
 * @param {import("./service.js").Service} service
 * @param {() => void} onKey called when the service has been given a key
 * @returns {() => void} shows the field
 */
export function keyField(service, onKey) {
  const part = byId("key-part");
  const field = /** @type {HTMLInputElement} */ (byId("key"));
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    service.key = field.value;
    part.hidden = true;
    onKey();
  });
  return () => {
    part.hidden = false;
    field.focus();
  };
}
