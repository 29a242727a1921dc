/** JSON schemas in words. */

import { element } from "./dom.js";

const BOUNDS = [
  ["minimum", "at least"],
  ["exclusiveMinimum", "above"],
  ["maximum", "at most"],
  ["exclusiveMaximum", "below"],
  ["minLength", "length at least"],
  ["pattern", "of the form"],
];

/**
 * Return a schema's type with its bounds and its default, in words and links to named schemas.
 * @param {any} schema
 * @returns {(Node | string)[]}
 */
export function typeOf(schema) {
  const bounds = BOUNDS.filter(([key]) => schema[key] !== undefined).map(([key, words]) => `, ${words} ${schema[key]}`);
  const preset = schema.default === undefined || schema.default === null ? [] : [`, default ${schema.default}`];
  return [...kindOf(schema), ...bounds, ...preset];
}

/**
 * @param {any} schema
 * @returns {(Node | string)[]}
 */
function kindOf(schema) {
  if (schema.$ref !== undefined) {
    const name = schema.$ref.split("/").at(-1);
    return [element("a", { href: `#schema-${name}` }, name)];
  }
  const choices = (schema.anyOf ?? schema.oneOf ?? []).filter((each) => each.type !== "null");
  if (choices.length) return choices.flatMap((each, i) => (i ? [" or ", ...typeOf(each)] : typeOf(each)));
  if (schema.const !== undefined) return [JSON.stringify(schema.const)];
  if (schema.enum !== undefined) return [schema.enum.map((each) => JSON.stringify(each)).join(" or ")];
  if (schema.prefixItems !== undefined) return ["list of ", String(schema.prefixItems.length), " values"];
  if (schema.type === "array") return ["list of ", ...typeOf(schema.items ?? {})];
  const others = schema.additionalProperties;
  if (others instanceof Object) return ["object of ", ...typeOf(others), " by name"];
  if (schema.format === "binary") return ["file"];
  return [schema.type ?? "any value", schema.format ? ` (${schema.format})` : ""];
}

/**
 * Return a named schema with its fields.
 * @param {string} name
 * @param {any} schema
 */
export function schemaPart(name, schema) {
  const rows = Object.entries(schema.properties ?? {}).map(([field, told]) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, element("code", {}, field)),
      element("td", {}, ...typeOf(told), schema.required?.includes(field) ? "" : " (may be absent)"),
      element("td", {}, told.description ?? ""),
    ),
  );
  const head = ["Field", "Type", "Meaning"].map((text) => element("th", { scope: "col" }, text));
  const table = element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows));
  const title = element("h3", { id: `schema-${name}` }, name);
  const label = `Fields of ${name}`;
  const region = element("div", { class: "scrolled", tabindex: 0, role: "region", "aria-label": label }, table);
  return element("section", {}, title, element("p", {}, schema.description ?? ""), region);
}
