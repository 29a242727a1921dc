/** The interface to read and to try, from the service's OpenAPI document. */

import { byId, element } from "./dom.js";
import { keyField } from "./key.js";
import { Problem } from "./problem.js";
import { schemaPart, typeOf } from "./schema.js";
import { Service } from "./service.js";
import { trial } from "./trial.js";

/** @typedef {{path: string, method: string, told: any}} Operation */

const service = new Service();

const askForKey = keyField(service, load);

async function load() {
  byId("alert").replaceChildren();
  try {
    show(await (await service.request("openapi.json")).json());
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    const title = element("p", {}, element("strong", {}, problem.title));
    byId("alert").replaceChildren(title, element("p", {}, problem.detail));
    if (problem.status === 401) askForKey();
  }
}

/** @param {any} openapi */
function show(openapi) {
  byId("version").textContent = `${openapi.info.title}, version ${openapi.info.version}`;
  const operations = operationsOf(openapi);
  const links = operations.map((each) => element("a", { href: `#${idOf(each)}` }, nameOf(each)));
  byId("contents").replaceChildren(element("ul", {}, ...links.map((link) => element("li", {}, link))));
  byId("operations").replaceChildren(...operations.map((each) => operationPart(each, openapi)));
  const schemas = Object.entries(openapi.components.schemas);
  byId("schemas").replaceChildren(...schemas.map(([name, schema]) => schemaPart(name, schema)));
}

/**
 * @param {any} openapi
 * @returns {Operation[]}
 */
function operationsOf(openapi) {
  return Object.entries(openapi.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, told]) => ({ path, method: method.toUpperCase(), told })),
  );
}

/** @param {Operation} operation */
function nameOf({ method, path }) {
  return `${method} ${path}`;
}

/** @param {Operation} operation */
function idOf(operation) {
  return nameOf(operation).replaceAll(/[^A-Za-z]+/g, "-");
}

/**
 * @param {Operation} operation
 * @param {any} openapi
 */
function operationPart(operation, openapi) {
  const { path, method, told } = operation;
  const parameters = (told.parameters ?? []).map((each) => resolved(each, openapi));
  const id = idOf(operation);
  const paragraphs = (told.description ?? told.summary ?? "").split("\n\n");
  return element(
    "section",
    { class: "operation", "aria-labelledby": id },
    element("h2", { id }, element("span", { class: "method" }, method), ` ${path}`),
    ...paragraphs.map((text) => element("p", {}, text)),
    ...(parameters.length ? [parametersTable(parameters)] : []),
    ...bodyPart(told.requestBody),
    element("h3", {}, "Answers"),
    ...Object.entries(told.responses).map(([status, response]) => answerPart(status, response)),
    trial(service, { path, method, parameters, body: told.requestBody, answers: told.responses }),
  );
}

/** @param {any[]} parameters */
function parametersTable(parameters) {
  const rows = parameters.map((each) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, element("code", {}, each.name), each.required ? " (required)" : ""),
      element("td", {}, each.in),
      element("td", {}, ...typeOf(each.schema)),
      element("td", {}, each.description ?? ""),
    ),
  );
  const head = ["Parameter", "In", "Type", "Meaning"].map((text) => element("th", { scope: "col" }, text));
  const table = element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows));
  return scrolled("Parameters", table);
}

/** @param {any} body */
function bodyPart(body) {
  if (body === undefined) return [];
  const rows = Object.entries(body.content).map(([type, told]) => {
    const fields = Object.entries(told.schema.properties ?? {}).map(([name, field]) => [
      element("code", {}, name),
      told.schema.required?.includes(name) ? " (required)" : "",
      field.description ? `: ${field.description} ` : " ",
    ]);
    return element("li", {}, element("code", {}, type), ...(fields.length ? [": ", ...fields.flat()] : []));
  });
  return [element("h3", {}, "Body"), element("ul", {}, ...rows)];
}

/**
 * @param {string} status
 * @param {any} response
 */
function answerPart(status, response) {
  const headers = Object.entries(response.headers ?? {})
    .filter(([, header]) => header.description || header.schema)
    .map(([name, header]) => {
      const meaning = [`: ${header.description ?? ""} `, ...typeOf(header.schema ?? {})];
      return element("li", {}, element("code", {}, name), ...meaning);
    });
  const contents = Object.entries(response.content ?? {}).flatMap(([type, told]) => [
    element("p", {}, element("code", {}, type), " ", ...(told.schema ? typeOf(told.schema) : [])),
    ...examplesOf(told).map((example) => element("pre", { tabindex: 0 }, written(example))),
  ]);
  const title = element("summary", {}, element("code", {}, status), ` ${response.description ?? ""}`);
  return element("details", {}, title, element("ul", {}, ...headers), ...contents);
}

/** @param {any} content */
function examplesOf(content) {
  if (content.example !== undefined) return [content.example];
  return Object.values(content.examples ?? {}).map((example) => example.value);
}

/** @param {unknown} example */
function written(example) {
  return typeof example === "string" ? example : JSON.stringify(example, null, 1);
}

/**
 * @param {any} told
 * @param {any} openapi
 */
function resolved(told, openapi) {
  if (told.$ref === undefined) return told;
  const [kind, name] = told.$ref.split("/").slice(-2);
  return openapi.components[kind][name];
}

/**
 * @param {string} label
 * @param {Node} content
 */
function scrolled(label, content) {
  return element("div", { class: "scrolled", tabindex: 0, role: "region", "aria-label": label }, content);
}

load();
