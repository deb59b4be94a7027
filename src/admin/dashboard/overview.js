// The first page: what needs attention, how much comes and goes, how each target stands, what failed last.

import { el, link, add, table, row, reconcile, nothing } from "/assets/dom.js";
import { get } from "/assets/api.js";
import { keep } from "/assets/live.js";
import { bytes, count, many, millis, span } from "/assets/format.js";
import { badge, eventLink, figure, foreign, moment, spark, state, targetLink } from "/assets/parts.js";
import { REASONS, health, outcome } from "/assets/words.js";
import { readPage } from "/assets/lists.js";
import { reloadButton } from "/assets/reload.js";

const EVERY_MS = 5_000;
const LAST = 8;

const TARGETS = [["Target", ""], ["State", ""], ["Pending", "number"], ["Oldest", "number"], ["Dead", "number"], ["Last hour", "chart"]];
const FAILED = [["Event", "mono"], ["Name", ""], ["Target", ""], ["State", ""], ["Why", "wide"], ["Next attempt", ""]];

/** Builds that did not go as they should, as far as one look tells how many there are. */
function troubled(page, query, one, more) {
  const [sum, atLeast] = [page.items.length, page.next === null ? "" : "At least "];
  return sum === 0 ? [] : [["warn", `${atLeast}${many(sum, one, more)}.`, `#/stages?${query}`]];
}

/** What an operator would want to know first: [kind of colour, sentence, where to go]. */
function concerns(stats, targets, stalled, missing) {
  const found = [];
  const { journal, queue, rejections } = stats;
  if (journal.health === "full") found.push(["bad", `The journal is full, and requests are answered 503: ${journal.detail}`, null]);
  if (journal.health === "failed") found.push(["bad", `The journal failed, and nothing is accepted: ${journal.detail}`, null]);
  if (journal.health === "recovering") found.push(["warn", "The journal recovers. Nothing is accepted yet.", null]);
  for (const target of targets) {
    const [word, kind, sentence] = health(target);
    const waits = target.ready + target.waiting;
    if (kind === "bad" || kind === "warn") {
      const pending = waits > 0 ? ` ${many(waits, "delivery waits", "deliveries wait")}.` : "";
      found.push([kind, `${target.target} is ${word}. ${sentence}${pending}`, waits > 0 ? `#/events?target=${target.target}&state=pending` : "#/targets"]);
    }
    if (target.dead > 0) found.push(["bad", `${target.target} has ${many(target.dead, "dead letter")}.`, `#/dead-letters?target=${target.target}`]);
  }
  if (queue.orphaned > 0) found.push(["warn", `${many(queue.orphaned, "delivery waits", "deliveries wait")} for targets that left the configuration.`, "#/targets"]);
  found.push(...troubled(stalled, "state=stalled", "build is stalled", "builds are stalled"), ...troubled(missing, "missing=true", "build misses a step", "builds miss a step"));
  if (rejections > 0) found.push(["warn", `${many(rejections, "refused request")} kept.`, "#/rejections"]);
  // What is a problem stands first, in the order in which it was found.
  return [...found.filter(([kind]) => kind === "bad"), ...found.filter(([kind]) => kind !== "bad")];
}

/** None while the ingress does not run yet. */
async function builds(query) {
  try {
    return await get(`stages?${query}&limit=50`);
  } catch (error) {
    if (error.status === 503) return { items: [], next: null };
    throw error;
  }
}

function concern([kind, sentence, hash]) {
  return el("li", { class: kind }, badge(kind === "bad" ? "problem" : "notice", kind), " ", sentence, " ", hash && link(hash, "Show"));
}

function figures(stats) {
  const { queue, totals, ack_seconds: ack, journal, per_minute: rates } = stats;
  const ofHour = (counts) => count(counts.reduce((a, b) => a + b, 0));
  const rate = (name, kind, counts, note) => add(figure(name, ofHour(counts), note), spark([[name.toLowerCase(), kind, counts]], name));
  const seconds = (value) => (value === null ? "–" : millis(value * 1000));
  return el("div", { class: "figures" },
    rate("Received", "in", rates.accepted, `in the last hour; ${many(totals.duplicates, "repeat")}, ${count(totals.refused)} refused since the start`),
    rate("Delivered", "good", rates.delivered, "attempts in the last hour"),
    rate("Failed", "bad", rates.failed, "attempts in the last hour"),
    figure("Pending", count(queue.ready + queue.waiting + queue.in_flight),
      `${count(queue.in_flight)} in flight, oldest ${span(queue.oldest_age_seconds)}`, "#/events?state=pending"),
    figure("Dead letters", count(queue.dead), "kept until retried, discarded or too old", "#/dead-letters"),
    figure("Acknowledged in", seconds(ack.p50), `half of them; 99 of 100 in ${seconds(ack.p99)}`),
    figure("Journal", bytes(journal.bytes), `${journal.health}, ${bytes(journal.free_bytes)} free`),
    figure("Running for", span(stats.uptime_seconds), `version ${stats.version}`));
}

function targetRow(target) {
  const [word, kind, sentence] = health(target);
  const rates = target.per_minute;
  return row(TARGETS, [
    targetLink(target.target),
    badge(word, kind, sentence),
    count(target.ready + target.waiting + target.in_flight),
    span(target.oldest_age_seconds),
    target.dead > 0 ? link(`#/dead-letters?target=${target.target}`, count(target.dead)) : "0",
    rates && spark([["delivered", "good", rates.delivered], ["failed", "bad", rates.failed]], target.target),
  ]);
}

function failedRow(item) {
  const attempt = item.latest;
  const [word, sentence] = attempt ? outcome(attempt) : ["", REASONS[item.reason] ?? "it was not tried yet"];
  return row(FAILED, [
    eventLink(item.id),
    foreign(item.event, 40),
    targetLink(item.target),
    state(item.state),
    [word && el("b", {}, word), " ", sentence],
    item.due_at ? moment(item.due_at) : "none",
  ]);
}

/** The latest deliveries that failed: given up, waiting for their next attempt, or due again while their target is left alone. */
async function failed() {
  const page = (wanted) => readPage("deliveries", { ...wanted, latest: true }, null, LAST);
  const pages = await Promise.all([page({ state: ["dead", "waiting"] }), page({ state: ["ready"], attempts: 1 })]);
  const all = pages.flatMap((one) => one.items);
  return all.toSorted((a, b) => b.received_at.localeCompare(a.received_at)).slice(0, LAST);
}

export default async function overview(place, { signal }) {
  const attention = el("div", {});
  const numbers = el("div", {});
  const targetTable = table("Targets", TARGETS);
  const failedTable = table("Deliveries that failed last", FAILED);
  const none = nothing("Nothing failed, as far as the latest events go.");
  const work = async () => {
    const [stats, targets, last, stalled, missing] = await Promise.all([get("stats"), get("targets?rates=true"), failed(), builds("state=stalled"), builds("missing=true")]);
    const found = concerns(stats, targets.items, stalled, missing);
    attention.replaceChildren(found.length > 0 ? el("ul", { class: "concerns" }, ...found.map(concern))
      : el("p", { class: "good box" }, "Nothing needs attention."));
    numbers.replaceChildren(figures(stats));
    reconcile(targetTable.body, targets.items, (it) => it.target, targetRow);
    reconcile(failedTable.body, last, (it) => `${it.id} ${it.target}`, failedRow);
    none.hidden = last.length > 0;
    failedTable.whole.hidden = last.length === 0;
  };
  await keep(work, { signal, every: EVERY_MS, least: 2_000 });
  add(place,
    el("h1", {}, "Overview"),
    el("section", { "aria-label": "What needs attention" }, attention),
    el("section", { "aria-label": "Figures" }, numbers),
    el("section", {}, el("h2", {}, "Targets"), targetTable.whole),
    el("section", {}, el("h2", {}, "What failed last"), failedTable.whole, none),
    el("div", { class: "buttons" }, reloadButton()));
}
