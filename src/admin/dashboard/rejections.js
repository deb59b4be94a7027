// Refused requests that are kept: why each was refused, and letting them in or giving them up.

import { el, add, button, table, row, reconcile, nothing, say } from "/assets/dom.js";
import { post } from "/assets/api.js";
import { confirm, labelled } from "/assets/dialogs.js";
import { keep } from "/assets/live.js";
import { bytes, many } from "/assets/format.js";
import { badge, moment } from "/assets/parts.js";
import { CAUSES } from "/assets/words.js";
import { filters } from "/assets/filters.js";
import { readPage, strangers, words } from "/assets/lists.js";

const COLUMNS = [["Request", "mono"], ["Source", ""], ["Cause", "wide"], ["Its sender was told", ""], ["From", "mono"], ["Size", "number"], ["Received", ""]];
const PAGE = 50;
const EVERY_MS = 10_000;
const OUTCOMES = [["accepted", "let in"], ["duplicate", "repeat an event"], ["refused", "refused again"], ["gone", "kept no longer"],
  ["no_source", "of a source that is not configured"], ["failed", "failed"]];

const FILTERS = [
  { name: "source", label: "Source", example: "shop", known: "sources" },
  { name: "cause", label: "Cause", choices: Object.keys(CAUSES).map((word) => [word, word]) },
  { name: "held", label: "Held for release", choices: [["true", "yes: its sender was answered 200"], ["false", "no: its sender was refused"]] },
  { name: "since", label: "Since", example: "2h" },
  { name: "until", label: "Until", example: "15m" },
];

function rejectionRow(item) {
  return row(COLUMNS, [
    el("a", { href: `#/rejections/${item.id}`, title: item.id, class: "mono" }, `…${item.id.slice(-10)}`),
    item.source,
    [badge(item.cause, "warn"), " ", CAUSES[item.cause] ?? ""],
    item.held ? badge("200, held", "warn") : badge("refused", "off"),
    el("span", { class: "whole" }, item.client), bytes(item.bytes), moment(item.received_at),
  ]);
}

/** What became of a release, in words. */
function result(released) {
  const parts = OUTCOMES.filter(([name]) => released[name] > 0).map(([name, text]) => `${released[name]} ${text}`);
  return parts.length > 0 ? `${parts.join(", ")}.` : "Nothing was there to release.";
}

/** Asks, releases, and says what became of it. Resolves with the answer, or nothing if it was left. */
export async function release(chosen, isOne) {
  const { matched } = await post("rejections/release", { ...chosen, dry_run: true });
  const force = el("input", { type: "checkbox" });
  const content = el("div", {},
    el("p", {}, "They are verified again with today's secrets. What is let in becomes an event and is delivered."),
    labelled("Let in whatever it proves", force, "Anybody can have sent it: only when you know who did."));
  const what = isOne ? "this request" : many(matched, "request");
  if (!await confirm(`Release ${what}?`, content, "Release")) return null;
  const released = await post("rejections/release", { ...chosen, force: force.checked });
  say(result(released), released.accepted + released.duplicate === 0);
  return released;
}

/** Asks and gives up. */
export async function discard(chosen, isOne) {
  const { matched } = await post("rejections/discard", { ...chosen, dry_run: true });
  const what = isOne ? "this request" : many(matched, "request");
  if (!await confirm(`Give up ${what}?`, "It cannot be undone.", "Give up", { danger: true })) return false;
  const { dropped } = await post("rejections/discard", chosen);
  say(`${many(dropped, "request is", "requests are")} given up.`);
  return true;
}

/** The filters of an address as a bulk request wants them. */
function filterOf(asked) {
  const { source = [], cause = [], held } = asked;
  return { source, cause, ...(held ? { held: held[0] === "true" } : {}) };
}

export default async function rejections(place, { query, signal }) {
  const asked = words(query);
  const { whole, body } = table("Refused requests", COLUMNS);
  const none = nothing("No refused request is kept like this.");
  strangers(query).then((said) => add(none, ...said), () => {});
  let [items, cursor] = [[], null];
  const draw = () => {
    reconcile(body, items, (it) => it.id, rejectionRow);
    none.hidden = items.length > 0;
    for (const it of [whole, acts]) it.hidden = items.length === 0;
    more.hidden = cursor === null;
  };
  const read = async () => {
    if (items.length > PAGE) return;
    const got = await readPage("rejections", asked, null, PAGE);
    [items, cursor] = [got.items, got.next];
    draw();
  };
  const reread = async () => { items = []; await read(); };
  const more = button("Older", async () => {
    const got = await readPage("rejections", asked, cursor, PAGE);
    [items, cursor] = [[...items, ...got.items], got.next];
    draw();
  });
  // Ages in the address mean something else each moment, so what is done to all of these goes by source and cause alone.
  const dated = query.has("since") || query.has("until");
  const acts = el("div", { class: "buttons", hidden: true }, dated ? el("span", { class: "note" }, "What came in a span of time is released and given up by the command line: everhook rejections release --since 3h.") : [
    button("Release all of these", async () => { if (await release({ filter: filterOf(asked) })) await reread(); }),
    button("Give up all of these", async () => { if (await discard({ filter: filterOf(asked) })) await reread(); }, { class: "quiet" })]);
  add(place,
    el("h1", {}, "Rejections"),
    el("p", { class: "note" }, "Requests that a source refused. They are kept for a while, so that a wrong secret loses nothing."),
    filters("rejections", query, FILTERS), acts, whole, none, el("p", {}, more));
  for (const it of [whole, none, more]) it.hidden = true;
  await keep(read, { signal, every: EVERY_MS, wants: () => false });
}
