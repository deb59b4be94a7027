// What lists have in common: the filters that the API knows, and reading page after page.

import { get, query as ask } from "/assets/api.js";
import { ERRORS, REASONS, STATES } from "/assets/words.js";

/** Pages that may be short before the reader is asked whether to look further: each takes the daemon about 50 ms. */
const SHORT_PAGES = 20;

const states = [["pending", "pending"], ...Object.entries(STATES).map(([word, [text]]) => [word, text])];

const AGE = "An age such as 15m, 2h or 7d, or a moment such as 2026-03-29T13:00:00Z";

export const FILTERS = [
  { name: "q", label: "Text in body or field", search: true, example: "order 4711" },
  { name: "source", label: "Source", example: "shop, ci", known: "sources" },
  { name: "event", label: "Event name", example: "build.*" },
  { name: "target", label: "Target", example: "deploy", known: "targets" },
  { name: "state", label: "State", choices: states },
  { name: "since", label: "Since", example: "2h or 7d", title: AGE },
  { name: "until", label: "Until", example: "15m", title: AGE, more: true },
  { name: "status", label: "Latest status", example: "503 or 5xx", more: true },
  { name: "error", label: "Latest error", choices: Object.keys(ERRORS).map((word) => [word, word]), more: true },
  { name: "reason", label: "Dead because", choices: Object.keys(REASONS).map((word) => [word, word]), more: true },
  { name: "attempts", label: "Attempts at least", example: "3", more: true },
  { name: "header", label: "Header field", example: "x-request-id: 42", more: true },
  { name: "pointer", label: "JSON pointer", example: "/build/branch=main", more: true },
  { name: "id", label: "Ids", example: "evt_…", more: true },
];

/** Reads on from `cursor` until there is something to show. */
export async function readPage(path, words, cursor, limit) {
  const items = [];
  let next = cursor;
  for (let page = 0; page < SHORT_PAGES; page += 1) {
    const got = await get(`${path}${ask({ ...words, cursor: next, limit })}`);
    items.push(...got.items);
    next = got.next;
    if (next === null || items.length >= limit) break;
  }
  return { items, next };
}

/** The filters of an address as the API wants them. */
export function words(query) {
  return Object.fromEntries([...new Set(query.keys())].map((name) => [name, query.getAll(name)]));
}

/** Names that a filter asks for and that nothing has now, in a sentence each: an empty list may be a misspelt one. */
export async function strangers(query) {
  const said = [];
  for (const name of ["source", "target"]) {
    const asked = query.getAll(name);
    if (asked.length === 0) continue;
    const { items } = await get(`${name}s`);
    const names = items.map((it) => it[name]);
    for (const one of asked.filter((it) => !names.includes(it))) said.push(` No ${name} is called "${one}"; there are ${names.join(", ")}.`);
  }
  return said;
}
