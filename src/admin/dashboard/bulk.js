// Many events at once: the count first, then the question, then a job that can be watched and cancelled.

import { el, add, button, reconcile, say } from "/assets/dom.js";
import { get, post, remove } from "/assets/api.js";
import { confirm, labelled } from "/assets/dialogs.js";
import { keep } from "/assets/live.js";
import { count, many, short, visible } from "/assets/format.js";
import { badge, moment } from "/assets/parts.js";

const RATE = 500;
const LISTS = new Set(["source", "event", "target", "state", "reason", "status", "error"]);
const KINDS = { replay: ["Replay", "Deliver again"], retry: ["Retry", "Retry"], discard: ["Discard", "Give up"] };
const PATHS = { replay: "replay", retry: "dead-letters/retry", discard: "dead-letters/discard" };

let able = null;

/** Whether this daemon does this at all; asked once. */
export async function isAble() {
  able ??= get("jobs").then(() => true, (error) => !error.missing);
  return able;
}

/** The filters of an address as a job wants them; ages become moments, so that the count and the job mean the same. */
export function filterOf(words, now = Date.now()) {
  const filter = {};
  for (const [name, values] of Object.entries(words)) {
    const [value] = values;
    if (LISTS.has(name)) filter[name] = values;
    else if (name === "id") filter.ids = values;
    else if (name === "attempts") filter.attempts = Number(value);
    else if (name === "since" || name === "until") filter[name] = instant(value, now);
    else if (name === "pointer") {
      const at = value.indexOf("=");
      filter.pointer = [value.slice(0, at), value.slice(at + 1)];
    } else filter[name] = value;
  }
  return filter;
}

const SECONDS = { ms: 0.001, s: 1, m: 60, h: 3_600, d: 86_400, w: 604_800 };

function instant(text, now) {
  const parts = [...text.matchAll(/(\d+)\s*(ms|[smhdw])/g)];
  if (parts.length === 0 || parts.map(([whole]) => whole).join("") !== text.replaceAll(" ", "")) return text;
  const age = parts.reduce((sum, [, number, unit]) => sum + number * SECONDS[unit], 0);
  return new Date(now - age * 1000).toISOString();
}

/** What a job is about, as its filters say it. */
function about({ filter, ids, targets }) {
  const words = Object.entries(filter ?? {}).filter(([, value]) => value !== null && value.length !== 0)
    .map(([name, value]) => (name === "pointer" ? `${name} ${value.join("=")}` : `${name} ${[value].flat().join(" or ")}`));
  if (ids) words.push("events by id");
  if (targets) words.push(`at ${targets.join(" and ")}`);
  return words.length > 0 ? words.join(", ") : "everything";
}

/** Counts, asks, and begins. Resolves with the job, or with nothing if it was left. */
export async function bulk(kind, chosen) {
  const path = PATHS[kind];
  const would = await post(path, { ...chosen, dry_run: true });
  if (would.deliveries === 0 && would.complete) {
    say("There is nothing to do: no delivery is like this.");
    return null;
  }
  const least = would.complete ? "" : "At least ";
  const rate = el("input", { type: "number", min: 1, max: 10_000, required: true, value: String(RATE) });
  const sentence = `${least}${many(would.deliveries, "delivery", "deliveries")} of ${many(would.events, "event")}.`;
  const content = el("div", {}, el("p", {}, el("b", {}, sentence)), el("p", { class: "note" }, `Chosen by: ${short(about(chosen), 500)}`),
    kind === "discard" && el("p", {}, "What is given up is not delivered any more. Its events stay until their retention ends."),
    labelled("Events a second at most", rate, "What arrives meanwhile is delivered as usual."));
  const [title, label] = KINDS[kind];
  if (!await confirm(`${title} ${least.toLowerCase()}${many(would.deliveries, "delivery", "deliveries")}?`, content, label, { danger: kind === "discard" })) return null;
  const job = await post(path, { ...chosen, rate: Number(rate.value) });
  say(job.state === "done" ? `Done: ${many(job.deliveries, "delivery", "deliveries")}.` : "It has begun.");
  return job;
}

/** A button that delivers everything again that the filters show. */
export function bulkReplay(words) {
  const place = el("span", {});
  isAble().then((yes) => {
    if (yes) place.append(button("Replay all of these", () => bulk("replay", { filter: filterOf(words) }), { class: "quiet" }));
  });
  return place;
}

const COLOURS = { running: "busy", done: "good", cancelled: "off", failed: "bad" };

function jobItem(job) {
  const of = job.expected ? ` of ${count(job.expected)}` : "";
  const done = job.expected ? Math.min(1, job.events / job.expected) : null;
  return el("li", {},
    badge(job.state, COLOURS[job.state]), ` ${KINDS[job.kind]?.[0] ?? job.kind}: ${count(job.events)}${of} ${(job.expected ?? job.events) === 1 ? "event" : "events"}, ${many(job.deliveries, "delivery", "deliveries")}`,
    job.failed > 0 && `, ${count(job.failed)} failed`, job.error && [": ", el("bdi", {}, job.error)], `; ${short(about(job), 200)}; begun `, moment(job.created_at), " ",
    job.state === "running" && el("progress", { "aria-label": visible(`Progress of ${job.id}`), ...(done === null ? {} : { value: done, max: 1 }) }),
    job.state === "running" && button("Cancel", async () => {
      if (await confirm("Cancel this job?", "What it has done stays done.", "Cancel the job", { danger: true })) await remove(`jobs/${job.id}`);
    }, { class: "quiet" }));
}

/** Jobs: those that run or ran while the page is open, and folded away those of before, if they are wanted. `ended` is called when one ends. */
export async function jobs(signal, ended = () => {}, { earlier = true } = {}) {
  const place = el("section", { hidden: true });
  if (!await isAble()) return place;
  const [list, past, title] = [el("ul", { class: "jobs" }), el("ul", { class: "jobs" }), el("summary", {})];
  const folded = el("details", {}, title, past);
  add(place, el("h2", {}, "Jobs"), list, folded);
  let running = new Set();
  let before = null;
  await keep(async () => {
    const { items } = await get("jobs");
    const now = new Set(items.filter((job) => job.state === "running").map((job) => job.id));
    before ??= new Set(items.map((job) => job.id).filter((id) => !now.has(id)));
    const old = items.filter((job) => before.has(job.id));
    reconcile(list, items.filter((job) => !before.has(job.id)), (job) => job.id, jobItem);
    reconcile(past, old, (job) => job.id, jobItem);
    title.textContent = many(old.length, "earlier job");
    folded.hidden = old.length === 0 || !earlier;
    place.hidden = folded.hidden && old.length === items.length;
    if ([...running].some((id) => !now.has(id))) ended();
    running = now;
  }, { signal, every: 2_000 });
  return place;
}
