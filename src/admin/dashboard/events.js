// Every event, the latest first, narrowed by filters, and brought up to date while it is looked at.

import { el, add, table, row, reconcile, nothing, button } from "/assets/dom.js";
import { keep, listen } from "/assets/live.js";
import { bytes, many } from "/assets/format.js";
import { badge, eventLink, foreign, moment } from "/assets/parts.js";
import { STATES } from "/assets/words.js";
import { filters, views } from "/assets/filters.js";
import { FILTERS, readPage, strangers, words } from "/assets/lists.js";
import { bulkReplay, jobs } from "/assets/bulk.js";

const PAGE = 50;
/** Rows of one list: beyond it, filters are of more help. */
const MOST = 1_000;

const COLUMNS = [["Event", "mono"], ["Name", "wide"], ["Source", ""], ["Deliveries", "wide"], ["Size", "number"], ["Received", ""]];

function deliveries(item) {
  if (item.deliveries.length === 0) return badge("no target wants it", "off");
  return item.deliveries.map((it) => {
    const [word, kind] = STATES[it.state] ?? [it.state, "off"];
    const tries = it.attempts > 1 ? `, ${it.attempts} attempts` : "";
    return [badge(`${it.target}: ${it.reason ? `${word} (${it.reason})` : word}${tries}`, kind), " "];
  });
}

function eventRow(item) {
  return row(COLUMNS, [eventLink(item.id), foreign(item.event), item.source, deliveries(item), bytes(item.bytes), moment(item.received_at)]);
}

export default async function events(place, { query, signal }) {
  const asked = words(query);
  const { whole, body } = table("Events", COLUMNS);
  const none = nothing(query.size > 0 ? "No event is like this." : "No event came yet. The sources page says what to set up at the provider.");
  strangers(query).then((said) => add(none, ...said), () => {});
  const told = el("p", { class: "note", role: "status" });
  let older = [];
  let first = { items: [], next: null };
  let cursor = null;
  const follow = el("input", { type: "checkbox", checked: true });
  const draw = () => {
    const seen = new Set(first.items.map((it) => it.id));
    const all = [...first.items, ...older.filter((it) => !seen.has(it.id))];
    reconcile(body, all, (it) => it.id, eventRow);
    none.hidden = all.length > 0 || cursor !== null;
    whole.hidden = all.length === 0;
    more.hidden = cursor === null || all.length >= MOST;
    told.textContent = cursor === null ? many(all.length, "event") : `${many(all.length, "event")}, and there may be more`;
  };
  const more = button("Older", async () => {
    const got = await readPage("events", asked, cursor, PAGE);
    older = [...older, ...got.items];
    cursor = got.next;
    draw();
  });
  let begun = false;
  const work = async () => {
    if (begun && !follow.checked) return;
    const got = await readPage("events", asked, null, PAGE);
    const before = new Map(first.items.map((it) => [it.id, it]));
    for (const it of got.items) before.delete(it.id);
    if (older.length > 0 && before.size < first.items.length) {
      // What leaves the first page stays in the list.
      older = [...before.values(), ...older].slice(0, MOST);
    } else {
      // More arrived than a page holds: the list begins anew, without a gap.
      older = [];
      cursor = got.next;
    }
    first = got;
    begun = true;
    draw();
  };
  listen((name, data) => {
    if (name !== "delivery" || !follow.checked) return;
    older = older.map((it) => (it.id === data.id
      ? { ...it, deliveries: it.deliveries.map((one) => (one.target === data.target ? { ...one, ...data } : one)) } : it));
  }, signal);
  const jobPlace = el("div", {});
  add(place,
    el("h1", {}, "Events"),
    views("events"),
    filters("events", query, FILTERS),
    el("div", { class: "bar" }, told, el("label", { class: "check" }, follow, "Follow what arrives"), bulkReplay(asked)),
    jobPlace, whole, none, el("p", {}, more));
  for (const it of [whole, none, more]) it.hidden = true;
  jobs(signal, undefined, { earlier: false }).then((it) => jobPlace.append(it), () => {});
  await keep(work, { signal });
}
