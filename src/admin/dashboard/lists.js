// What lists have in common: the filters that the API knows, and reading page after page.

import { get, query as ask } from "/assets/api.js";
import { ERRORS, REASONS, STATES } from "/assets/words.js";

/** Pages that may be short before the reader is asked whether to look further: each takes the daemon about 50 ms. */
const SHORT_PAGES = 20;

const states = [["pending", "pending"], ...Object.entries(STATES).map(([word, [text]]) => [word, text])];

export const FILTERS = [
  { name: "q", label: "Text in body or field", search: true, example: "order 4711" },
  { name: "source", label: "Source", example: "shop, ci" },
  { name: "event", label: "Event name", example: "build.*" },
  { name: "target", label: "Target", example: "deploy" },
  { name: "state", label: "State", choices: states },
  { name: "since", label: "Since", example: "2h or 2026-01-31T10:00:00Z" },
  { name: "until", label: "Until", example: "15m", more: true },
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
