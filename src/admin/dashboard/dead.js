// Dead letters: counted by target and reason, listed with what the target said last, retried and given up.

import { el, add, link, button, table, row, reconcile, nothing, say } from "/assets/dom.js";
import { get, post, query as ask } from "/assets/api.js";
import { keep } from "/assets/live.js";
import { count, many } from "/assets/format.js";
import { badge, eventLink, foreign, moment, targetLink } from "/assets/parts.js";
import { REASONS, outcome } from "/assets/words.js";
import { filters, views } from "/assets/filters.js";
import { FILTERS, readPage, strangers, words } from "/assets/lists.js";
import { bulk, filterOf, isAble, jobs } from "/assets/bulk.js";

const GROUPS = [["Target", ""], ["Reason", "wide"], ["Dead letters", "number"], ["Oldest", ""], ["Newest", ""], ["Act", "acts"]];
const COLUMNS = [["Choose", "narrow"], ["Event", "mono"], ["Name", ""], ["Target", ""], ["Reason", ""], ["What the target said", "wide"], ["Received", ""], ["Act", "acts"]];
const PAGE = 50;
const EVERY_MS = 15_000;
const MOST_GROUP_MS = 5_000;
const MOST_PARTS = 20;

const keyOfGroup = (group) => `${group.target} ${group.reason}`;

/** Counts in parts, and shows what was counted after each: a filter that reads bodies may take a while. */
async function readGroups(asked, signal, show) {
  const sums = new Map();
  let cursor = null;
  for (let part = 0; part < MOST_PARTS && !signal.aborted; part += 1) {
    const got = await get(`dead-letters/groups${ask({ ...asked, cursor })}`);
    for (const group of got.items) {
      const sum = sums.get(keyOfGroup(group));
      sums.set(keyOfGroup(group), sum ? added(sum, group) : group);
    }
    cursor = got.next;
    show([...sums.values()], got.complete);
    if (cursor === null) return;
  }
}

function added(sum, group) {
  const [oldest, newest] = [[sum.oldest, group.oldest], [sum.newest, group.newest]].map((times) => times.toSorted());
  return { ...sum, count: sum.count + group.count, oldest: oldest[0], newest: newest[1] };
}

function groupButtons(group, chosen, done) {
  const go = (kind) => async () => { if (await bulk(kind, chosen)) await done(); };
  const what = `all ${group.reason} of ${group.target}`;
  return [button("Retry all", go("retry"), { class: "main", "aria-label": `Retry ${what}` }), " ",
    button("Discard all", go("discard"), { class: "quiet", "aria-label": `Discard ${what}` })];
}

function groupRow(asked, group, able, done) {
  const only = { ...asked, target: [group.target], reason: [group.reason] };
  return row(GROUPS, [
    group.target,
    [badge(group.reason, "bad"), " ", REASONS[group.reason] ?? ""],
    link(`#/dead-letters${ask(only)}`, count(group.count)),
    moment(group.oldest),
    moment(group.newest),
    able ? groupButtons(group, { filter: filterOf(only) }, done) : null,
  ]);
}

function letterRow(item, chosen, changed, done) {
  const said = item.latest ? outcome(item.latest) : null;
  const box = el("input", { type: "checkbox", "aria-label": `Choose ${item.id} for ${item.target}`, checked: chosen.has(keyOf(item)), onchange: () => {
    if (box.checked) chosen.set(keyOf(item), item);
    else chosen.delete(keyOf(item));
    changed();
  } });
  return row(COLUMNS, [
    box, eventLink(item.id), foreign(item.event, 40), targetLink(item.target), badge(item.reason, "bad", REASONS[item.reason]),
    said ? [el("b", {}, said[0]), " ", said[1]] : "it was not tried",
    moment(item.received_at),
    button("Retry", async () => {
      await post(`events/${item.id}/replay`, { targets: [item.target] });
      say("It is due now.");
      await done();
    }, { "aria-label": `Retry ${item.id} at ${item.target}` }),
  ]);
}

const keyOf = (item) => `${item.id} ${item.target}`;

/** Those that were chosen, as one job for each target: ids alone would mean every dead delivery of the events. */
async function bulkChosen(kind, chosen) {
  const byTarget = Map.groupBy(chosen.values(), (item) => item.target);
  for (const [target, items] of byTarget) {
    if (!await bulk(kind, { ids: items.map((item) => item.id), targets: [target] })) return false;
  }
  return true;
}

export default async function dead(place, { query, signal }) {
  const asked = words(query);
  const able = await isAble();
  const groups = table("Dead letters by target and reason", GROUPS);
  const letters = table("Dead letters", COLUMNS);
  const [none, told] = [nothing("There are no dead letters like this."), el("p", { class: "note", role: "status" })];
  strangers(query).then((said) => add(none, ...said), () => {});
  const chosen = new Map();
  const picked = el("div", { class: "buttons", hidden: true });
  let [items, cursor, counted] = [[], null, 0];
  const draw = () => {
    reconcile(letters.body, items, keyOf, (item) => letterRow(item, chosen, changed, done));
    none.hidden = items.length > 0;
    letters.whole.hidden = items.length === 0;
    more.hidden = cursor === null;
  };
  const changed = () => {
    picked.hidden = chosen.size === 0;
    picked.firstChild.textContent = `${many(chosen.size, "is", "are")} chosen `;
  };
  const countGroups = async () => {
    await readGroups(asked, signal, (items, complete) => {
      reconcile(groups.body, items, keyOfGroup, (it) => groupRow(asked, it, able, done));
      const sum = items.reduce((all, it) => all + it.count, 0);
      told.textContent = `${complete ? "" : "At least "}${many(sum, "dead letter")}`;
      groups.whole.hidden = items.length === 0;
    });
    counted = Date.now();
  };
  const read = async () => {
    const got = await readPage("dead-letters", { ...asked, latest: true }, null, Math.max(PAGE, Math.min(items.length, 200)));
    [items, cursor] = [got.items, got.next];
    const here = new Set(items.map(keyOf));
    for (const key of chosen.keys()) if (!here.has(key)) chosen.delete(key);
    draw();
    changed();
  };
  const done = async () => { await Promise.all([read(), countGroups()]); };
  const more = button("Older", async () => {
    const got = await readPage("dead-letters", { ...asked, latest: true }, cursor, PAGE);
    [items, cursor] = [[...items, ...got.items], got.next];
    draw();
  });
  const act = (kind) => async () => {
    if (!await bulkChosen(kind, chosen)) return;
    chosen.clear();
    await done();
  };
  add(picked, el("span", {}), able && [button("Retry these", act("retry"), { class: "main" }), button("Discard these", act("discard"), { class: "quiet" })]);
  const jobPlace = el("div", {});
  add(place,
    el("h1", {}, "Dead letters"),
    el("p", { class: "note" }, "Deliveries that were given up. They are kept until they are retried, discarded, or older than the journal's retention."),
    views("dead-letters"),
    filters("dead-letters", query, FILTERS.filter((spec) => spec.name !== "state")),
    jobPlace,
    el("section", {}, el("h2", {}, "By reason"), told, groups.whole),
    el("section", {}, el("h2", {}, "Each"), picked, letters.whole, none, el("p", {}, more)));
  for (const it of [groups.whole, letters.whole, none, more]) it.hidden = true;
  await done();
  jobPlace.append(await jobs(signal, done));
  const isOfDead = (name, data) => name === "delivery" && (data.state === "dead" || items.some((it) => it.id === data.id));
  await keep(async () => {
    if (items.length <= PAGE) await read();
    if (Date.now() - counted > MOST_GROUP_MS) await countGroups();
  }, { signal, every: EVERY_MS, least: 2_000, wants: isOfDead });
}
