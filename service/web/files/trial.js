/** A form that sends a request to a route, and shows the answer as it comes. */

import { button, element } from "./dom.js";
import { Problem, isStopped } from "./problem.js";

/**
 * @typedef {{
 *   path: string, method: string, parameters: any[], body: any, answers: Record<string, any>,
 * }} Route a route as the OpenAPI document has it
 * @typedef {{address: string, method: string, headers: Record<string, string>, files: [string, File][]}} Request
 */

const SHOWN_CHARACTERS = 200_000;
/** What the names of fields for files begin with, so that no parameter has the same. */
const FILE = "file ";

/**
 * Return the form of a route.
 * @param {import("./service.js").Service} service
 * @param {Route} route
 */
export function trial(service, route) {
  const output = element("pre", { tabindex: 0, hidden: true, "aria-label": `Answer of ${route.path}` });
  const command = element("pre", { tabindex: 0, hidden: true, "aria-label": `The same with curl, ${route.path}` });
  const status = element("p", { role: "status" });
  let running = new AbortController();
  const stop = button("Stop", () => running.abort(), { hidden: true });
  const form = /** @type {HTMLFormElement} */ (
    element("form", { class: "trial" }, ...fieldsOf(route), element("p", {}, element("button", {}, "Send"), " ", stop))
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    running.abort();
    const mine = new AbortController();
    running = mine;
    const request = requestOf(form, route);
    command.textContent = asCurl(request);
    output.textContent = "";
    for (const each of [command, output, stop]) each.hidden = false;
    status.textContent = "Sent.";
    const ending = await exchange(service, request, output, mine.signal);
    if (running !== mine) return;
    status.textContent = ending;
    stop.hidden = true;
  });
  return element("details", {}, element("summary", {}, "Try it"), form, command, status, output);
}

/** @param {Route} route */
function fieldsOf(route) {
  const made = route.parameters.map((each) => {
    const values = each.schema.enum ?? (each.schema.anyOf ?? []).find((choice) => choice.enum)?.enum;
    const input = values
      ? element("select", { name: each.name }, ...["", ...values].map((value) => element("option", {}, value)))
      : element("input", {
          name: each.name,
          placeholder: each.schema.default ?? "",
          required: each.required === true,
          autocomplete: "off",
        });
    return element("label", {}, each.name, input);
  });
  const form = route.body?.content["multipart/form-data"]?.schema ?? {};
  for (const name of Object.keys(form.properties ?? {})) {
    const required = form.required.includes(name);
    made.push(element("label", {}, name, element("input", { type: "file", name: FILE + name, required })));
  }
  const types = Object.keys(route.answers["200"]?.content ?? {});
  if (types.length > 1) {
    const choices = types.map((type) => element("option", {}, type));
    made.push(element("label", {}, "Accept", element("select", { name: "Accept" }, ...choices)));
  }
  return made;
}

/**
 * @param {HTMLFormElement} form
 * @param {Route} route
 * @returns {Request}
 */
function requestOf(form, route) {
  const given = new FormData(form);
  const text = (name) => String(given.get(name) ?? "");
  const filled = (place) =>
    route.parameters
      .filter((each) => each.in === place && text(each.name) !== "")
      .map((each) => [each.name, text(each.name)]);
  const query = new URLSearchParams(filled("query"));
  const headers = Object.fromEntries(filled("header"));
  if (text("Accept")) headers.Accept = text("Accept");
  const path = route.path.replaceAll(/\{(\w+)\}/g, (_, name) => encodeURIComponent(text(name))).slice(1);
  const files = [...given.entries()].filter(([, value]) => value instanceof File && value.name);
  return {
    address: query.size ? `${path}?${query}` : path,
    method: route.method,
    headers,
    files: files.map(([name, value]) => [name.slice(FILE.length), /** @type {File} */ (value)]),
  };
}

/**
 * Send a request and show its answer as it arrives. Returns a sentence on how it ended.
 * @param {import("./service.js").Service} service
 * @param {Request} request
 * @param {HTMLElement} output
 * @param {AbortSignal} signal
 */
async function exchange(service, request, output, signal) {
  const form = new FormData();
  for (const [name, file] of request.files) form.append(name, file);
  const body = request.files.length ? form : undefined;
  try {
    const { address, method, headers: asked } = request;
    const response = await service.answer(address, { method, headers: asked, body, signal });
    const headers = [...response.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
    output.textContent = `${response.status} ${response.statusText}\n${headers}\n\n`;
    const type = response.headers.get("Content-Type") ?? "";
    const isDocument = type.includes("json") && !type.includes("ndjson");
    if (isDocument) output.append(JSON.stringify(await response.json(), null, 1));
    else await appendText(response, output);
    return `Answered with status ${response.status}.`;
  } catch (error) {
    if (isStopped(error)) return "Stopped.";
    return error instanceof Problem ? `${error.title}: ${error.detail}` : "The answer could not be read.";
  }
}

/**
 * @param {Response} response
 * @param {HTMLElement} output
 */
async function appendText(response, output) {
  if (response.body === null) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    if (length < SHOWN_CHARACTERS) output.append(value.slice(0, SHOWN_CHARACTERS - length));
    length += value.length;
  }
}

/**
 * Return the request as a command for a shell, without a key.
 * @param {Request} request
 */
function asCurl({ address, method, headers, files }) {
  const parts = ["curl", ...(method === "GET" || files.length ? [] : ["-X", method])];
  for (const [name, value] of Object.entries(headers)) parts.push("-H", quoted(`${name}: ${value}`));
  for (const [name, file] of files) parts.push("-F", quoted(`${name}=@${file.name}`));
  parts.push(quoted(new URL(address, document.baseURI).href));
  return parts.join(" ");
}

/** @param {string} text */
function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
