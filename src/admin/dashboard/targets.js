// Each target: how it stands, what waits for it, and pause, resume and test.

import { el, add, link, button, reconcile, nothing, say } from "/assets/dom.js";
import { get, post } from "/assets/api.js";
import { confirm } from "/assets/dialogs.js";
import { keep } from "/assets/live.js";
import { count, span } from "/assets/format.js";
import { badge, eventLink, moment, spark } from "/assets/parts.js";
import { ERRORS, health, ofStatus, outcome } from "/assets/words.js";

const EVERY_MS = 5_000;
/** How often and how long the outcome of a test is looked for. */
const LOOK_MS = 500;
const LOOKS = 40;

function failure(target) {
  const last = target.last_failure;
  if (!last) return "none since the start";
  const sentence = last.status !== null ? `${last.status}: ${ofStatus(last.status)}` : `${last.error}: ${ERRORS[last.error] ?? ""}`;
  return [sentence, ", ", moment(last.at)];
}

async function outcomeOf(id, signal) {
  for (let look = 0; look < LOOKS && !signal.aborted; look += 1) {
    const event = await get(`events/${id}`);
    const [attempt] = event.attempts;
    if (attempt) return outcome(attempt);
    await new Promise((resolve) => { setTimeout(resolve, LOOK_MS); });
  }
  return ["waiting", "it was not tried yet"];
}

async function test(target, place, signal) {
  const { id } = await post(`targets/${target.target}/test`, {});
  place.replaceChildren();
  add(place, "Test event ", eventLink(id), " is on its way…");
  const [word, sentence] = await outcomeOf(id, signal);
  const kind = sentence === "delivered" ? "good" : "bad";
  place.replaceChildren();
  add(place, "Test event ", eventLink(id), ": ", badge(word, kind), " ", sentence);
}

async function pause(target, refresh) {
  if (!await confirm(`Pause ${target.target}?`, "Its deliveries wait, also over a restart, until it is resumed.", "Pause")) return;
  await post(`targets/${target.target}/pause`, {});
  say(`${target.target} is paused.`);
  await refresh();
}

async function resume(target, refresh) {
  await post(`targets/${target.target}/resume`, {});
  say(`${target.target} is resumed.`);
  await refresh();
}

function card(target, tests, refresh, signal) {
  const [word, kind, sentence] = health(target);
  const name = target.target;
  const fact = (label, value) => [el("dt", {}, label), el("dd", {}, value)];
  const rates = target.per_minute;
  if (!tests.has(name)) tests.set(name, el("p", { class: "note", role: "status" }));
  const outcomePlace = tests.get(name);
  const holding = target.breaker_open_since && [", since ", moment(target.breaker_open_since)];
  return el("li", { class: "card" },
    el("h2", {}, name, " ", badge(word, kind)),
    el("p", {}, sentence, target.paused && [" Since ", moment(target.paused.since), "."]),
    rates && spark([["delivered", "good", rates.delivered], ["failed", "bad", rates.failed]], name),
    el("dl", {},
      target.url && fact("Address", el("span", { class: "mono" }, target.url)),
      fact("Pending", link(`#/events?target=${name}&state=pending`,
        `${count(target.ready)} ready, ${count(target.waiting)} waiting, ${count(target.in_flight)} in flight`)),
      fact("Oldest pending", span(target.oldest_age_seconds)),
      fact("Dead letters", target.dead > 0 ? link(`#/dead-letters?target=${name}`, count(target.dead)) : "none"),
      fact("Breaker", [target.breaker, holding]),
      target.held_until && fact("Slowed down until", moment(target.held_until)),
      fact("Last failure", failure(target)),
      fact("Last success", target.last_success_at ? moment(target.last_success_at) : "none since the start"),
      target.configured && fact("At once", `${count(target.in_flight)} of at most ${count(target.concurrency)}`),
      target.order === "key" && fact("Order", "those of one key go one after the other")),
    target.configured && el("div", { class: "buttons" },
      target.paused
        ? button("Resume", () => resume(target, refresh), { class: "main", "aria-label": `Resume ${name}` })
        : button("Pause", () => pause(target, refresh), { "aria-label": `Pause ${name}` }),
      button("Send a test event", () => test(target, outcomePlace, signal), { "aria-label": `Send a test event to ${name}` })),
    outcomePlace);
}

export default async function targets(place, { signal }) {
  const list = el("ul", { class: "cards" });
  const none = nothing("No target is configured: add a [target.NAME] with a url to the configuration.");
  const tests = new Map();
  const work = async () => {
    const { items } = await get("targets?rates=true");
    reconcile(list, items, (it) => it.target, (it) => card(it, tests, work, signal));
    none.hidden = items.length > 0;
  };
  await keep(work, { signal, every: EVERY_MS, wants: (name) => name === "delivery" });
  add(place, el("h1", {}, "Targets"), list, none);
}
