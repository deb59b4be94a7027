// One event whole: what became of it for each target, every attempt with its answer, what was received, and what can be
// done about it.

import { el, add, link, button, say, nothing } from "/assets/dom.js";
import { download, get, post } from "/assets/api.js";
import { keep } from "/assets/live.js";
import { bytes, exact, many, millis, visible } from "/assets/format.js";
import { badge, foreign, headerTable, moment, state } from "/assets/parts.js";
import { REASONS, health, outcome } from "/assets/words.js";
import { showBody } from "/assets/body.js";
import { askCurl } from "/assets/curl.js";
import { askResend } from "/assets/resend.js";
import { steps } from "/assets/timing.js";

const EVERY_MS = 10_000;
/** States in which an operator can have it delivered again. */
const SETTLED = new Set(["delivered", "dead", "discarded"]);
/** States in which it waits, and can be attempted now instead. */
const PENDING = new Set(["ready", "waiting"]);
const HELD = { paused: "is paused", overloaded: "asked to be left alone for now", "not-configured": "is not configured" };

async function replay(id, targets) {
  const { deliveries } = await post(`events/${id}/replay`, targets ? { targets } : {});
  say(deliveries === 0 ? "Nothing changed: what is pending is left to its schedule." : `${many(deliveries, "delivery is", "deliveries are")} due now.`);
}

/** What is pending, attempted now. What has ended or begun meanwhile is said, and is no mistake. */
async function retry(id, targets) {
  const { deliveries, held } = await post(`events/${id}/retry`, targets ? { targets } : {});
  const due = `${many(deliveries, "delivery is", "deliveries are")} due now`;
  const but = held.map((it) => `${it.target} ${HELD[it.reason] ?? it.reason}`).join(", ");
  say(but ? `${due}, but ${but}.` : `${due}.`);
}

/** Why a delivery is where it is, in a sentence. */
function why(delivery, attempts, target) {
  const last = attempts.findLast((it) => it.target === delivery.target);
  const said = last ? outcome(last) : null;
  switch (delivery.state) {
    case "delivered": return last ? `answered ${last.status}` : "";
    case "dead": return [REASONS[delivery.reason] ?? delivery.reason, last && `. Latest attempt: ${said[0]}, ${said[1]}`, "."];
    case "waiting": return [last ? `${said[0]}: ${said[1]}. ` : "", "Next attempt ", moment(delivery.due_at), "."];
    case "discarded": return "an operator gave it up";
    case "in_flight": return "an attempt is on its way";
    default: return ["due now; it waits for its turn", holding(target)];
  }
}

/** What keeps a target from being attempted, if something does. */
function holding(target) {
  if (!target) return null;
  const [word, , sentence] = health(target);
  const held = !target.configured || target.paused || target.held_until || target.breaker === "open" || target.breaker === "probing";
  return held && [`: the target is ${word}. ${sentence} `, link("#/targets", "Targets")];
}

function deliveryItem(event, delivery, target, refresh) {
  const again = delivery.state === "delivered" ? "Deliver again" : "Retry";
  return el("li", { class: "delivery" },
    el("span", { class: "what" }, el("b", {}, delivery.target), " ", state(delivery.state, null)),
    el("span", { class: "why" }, why(delivery, event.attempts, target)),
    el("span", { class: "note" }, many(delivery.attempts, "attempt")),
    PENDING.has(delivery.state) && target?.configured &&
      button("Try now", async () => { try { await retry(event.id, [delivery.target]); } finally { await refresh(); } }),
    SETTLED.has(delivery.state) && button(again, async () => { await replay(event.id, [delivery.target]); await refresh(); }));
}

function attemptItem(attempt) {
  const [word, sentence] = outcome(attempt);
  const kind = attempt.outcome === "delivered" ? "good" : "bad";
  const summary = el("summary", {},
    moment(attempt.started_at), " ", el("b", {}, attempt.target), ` attempt ${attempt.number} `, badge(word, kind), " ",
    el("span", {}, sentence), " ", el("span", { class: "note" }, millis(attempt.duration_ms)));
  const whole = el("details", { class: `attempt ${kind}` }, summary);
  whole.dataset.key = `${attempt.target} ${attempt.started_at} ${attempt.number}`;
  whole.addEventListener("toggle", () => {
    if (whole.open && whole.children.length === 1) add(whole, attemptDetail(attempt));
  });
  return whole;
}

function attemptDetail(attempt) {
  const fact = (name, value) => value !== null && value !== undefined && [el("dt", {}, name), el("dd", {}, value)];
  return el("div", { class: "detail" },
    el("dl", {},
      fact("Began", exact(attempt.started_at)),
      fact("Address", attempt.remote),
      fact("Error", attempt.error),
      fact("In its own words", attempt.detail && el("bdi", {}, attempt.detail)),
      fact("Retry-After", attempt.retry_after && el("bdi", {}, attempt.retry_after)),
      fact("Next attempt", attempt.next_attempt_at && exact(attempt.next_attempt_at))),
    el("h4", {}, "Where the time went"), steps(attempt),
    el("h4", {}, "Request: header fields"), attempt.request_headers.length > 0
      ? headerTable(attempt.request_headers, `Header fields of attempt ${attempt.number}`) : nothing(attempt.status >= 200 && attempt.status < 300 ? "They are recorded when an attempt fails." : "Nothing was sent."),
    el("h4", {}, "Answer: header fields"), headerTable(attempt.headers, `Header fields of the answer to attempt ${attempt.number}`),
    el("h4", {}, "Answer: body"), showBody(attempt.body, attempt.headers, "No body was recorded."));
}

/** What happened, the first first. Attempts that are shown already keep their place, open or not. */
function timeline(place, event, shown) {
  const begun = el("li", {}, moment(event.received_at), " ", badge("received", "good"),
    ` from ${event.source}, ${bytes(event.body.size)}, and stored before it was answered`);
  const attempts = [...event.attempts].sort((a, b) => Date.parse(a.started_at) - Date.parse(b.started_at));
  const items = attempts.map((attempt) => {
    const name = `${attempt.target} ${attempt.started_at} ${attempt.number} ${attempt.outcome}`;
    if (!shown.has(name)) shown.set(name, el("li", {}, attemptItem(attempt)));
    return shown.get(name);
  });
  const next = event.deliveries.filter((it) => it.due_at).map((it) =>
    el("li", { class: "next" }, moment(it.due_at), " ", badge("planned", "warn"), ` next attempt at ${it.target}`));
  const repeats = event.repeats.latest.map((it) => el("li", {}, moment(it.received_at), " ", badge("repeat", "off"),
    " it came once more from ", el("span", { class: "mono" }, it.client), ", was answered like the first time, and is not delivered for that"));
  const more = event.repeats.count - repeats.length;
  if (more > 0) repeats.unshift(el("li", { class: "note" }, `${many(more, "repeat")} before those that follow`));
  const wanted = [begun, ...items, ...next, ...repeats];
  // Those that are kept are not taken out, so what is open and focused in them stays.
  for (const child of [...place.children]) if (!wanted.includes(child)) child.remove();
  wanted.forEach((child, at) => { if (place.children[at] !== child) place.insertBefore(child, place.children[at] ?? null); });
}

async function save(event) {
  const url = URL.createObjectURL(await download(`events/${event.id}/body`));
  const it = el("a", { href: url, download: `${event.id}.body` });
  it.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

export default async function one(place, { id, signal }) {
  const heads = el("div", {});
  const deliveries = el("ul", { class: "deliveries" });
  const attempts = el("ol", { class: "timeline" });
  const shown = new Map();
  const work = async () => {
    const [event, targets] = await Promise.all([get(`events/${encodeURIComponent(id)}`), get("targets")]);
    const targetOf = (delivery) => targets.items.find((it) => it.target === delivery.target);
    const held = event.deliveries.map((it) => String(holding(targetOf(it))?.[0] ?? ""));
    const sign = JSON.stringify([event.deliveries, held]);
    if (deliveries.dataset.sign !== sign) {
      deliveries.dataset.sign = sign;
      deliveries.replaceChildren(...event.deliveries.map((it) => deliveryItem(event, it, targetOf(it), work)));
      if (event.deliveries.length === 0) deliveries.append(el("li", {}, "No target wants it: no target's from and events fit."));
    }
    timeline(attempts, event, shown);
    return event;
  };
  const event = await work();
  document.title = `${visible(event.event)} · everhook`;
  add(heads,
    el("p", { class: "crumbs" }, link("#/events", "Events"), " / ", event.id),
    el("h1", {}, foreign(event.event, 200)),
    el("p", { class: "note" }, "From ", link(`#/events?source=${event.source}`, event.source), ", received ", moment(event.received_at), ` (${exact(event.received_at)})`,
      event.order_key && [", order key ", foreign(event.order_key)]),
    event.conflicts.length > 0 && el("p", { class: "note" }, "Copies that say something else: ",
      event.conflicts.flatMap((it, at) => [at > 0 && ", ", link(`#/rejections/${it.id}`, `…${it.id.slice(-10)}`)])));
  add(place, heads,
    el("div", { class: "buttons" },
      button("Replay to all targets", async () => { await replay(event.id); await work(); }, { class: "main" }),
      button("Edit and resend", () => askResend(event)),
      button("Copy as curl", () => askCurl(event)),
      button("Download body", () => save(event))),
    el("section", {}, el("h2", {}, "Deliveries"), deliveries),
    el("section", {}, el("h2", {}, "What happened"), attempts),
    el("section", {}, el("h2", {}, "Body"), showBody(event.body, event.headers, "It has no body.")),
    el("section", {}, el("h2", {}, "Header fields"), event.headers.length > 0
      ? headerTable(event.headers, "Header fields of the request") : nothing("No header fields were kept.")));
  await keep(work, { signal, every: EVERY_MS, wants: (name, data) => name === "delivery" && data.id === id });
}
