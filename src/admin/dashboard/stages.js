// Builds that are watched: which steps came and when, what is missing, and what got stuck.

import { el, add, button, link, nothing, reconcile } from "/assets/dom.js";
import { get } from "/assets/api.js";
import { keep } from "/assets/live.js";
import { count, span } from "/assets/format.js";
import { badge, foreign, moment } from "/assets/parts.js";
import { STEPS } from "/assets/words.js";
import { filters, views } from "/assets/filters.js";
import { readPage, strangers, words } from "/assets/lists.js";

const PAGE = 30;
const EVERY_MS = 5_000;
const KINDS = { going: "busy", stalled: "bad", ended: "off" };

const FILTERS = [
  { name: "q", label: "Text in the build's key", search: true, example: "4711" },
  { name: "source", label: "Source", example: "ci", known: "sources" },
  { name: "state", label: "State", choices: Object.keys(KINDS).map((word) => [word, word]) },
  { name: "missing", label: "Steps missing", choices: [["true", "yes"], ["false", "no"]] },
];

function step({ event, state, at }, previous, isOver) {
  const [sign, kind, words] = STEPS[state] ?? ["", "off", state];
  const sentence = state === "open" && isOver ? "did not come" : words;
  const after = at && previous ? `${span((Date.parse(at) - Date.parse(previous)) / 1000)} later` : null;
  return el("li", { class: kind }, el("span", { class: "sign", "aria-hidden": "true" }, sign), " ", foreign(event, 60), " ",
    at ? [moment(at), after && el("span", { class: "note" }, ` ${after}`)] : el("span", { class: "note" }, sentence));
}

/** Every step in the provider's order; how much later each came than the one that came before it. */
function steps(build) {
  let previous = null;
  return build.steps.map((it) => {
    const shown = step(it, previous, build.state === "ended");
    previous = it.at ?? previous;
    return shown;
  });
}

function sentence(build) {
  if (build.state === "stalled") return ["Nothing was heard of it since ", moment(build.heard_at), ". It may have got stuck at the provider."];
  if (build.late.length > 0) return [`${count(build.late.length)} late; told to be missing `, moment(build.gap_at), "."];
  if (build.missing.length > 0) return "A step never came. What the provider did not send cannot be had from here.";
  if (build.state === "ended") return "Its last step came.";
  return ["It goes on; told to be stalled ", moment(build.stall_at), ", if nothing is heard of it until then."];
}

function card(build) {
  const { source, state, missing, late } = build;
  return el("li", { class: "card" },
    el("h2", {}, foreign(build.build, 120), " ", badge(state, KINDS[state]), " ",
      missing.length > 0 && badge(`${count(missing.length)} missing`, "bad"), " ", late.length > 0 && badge(`${count(late.length)} late`, "warn")),
    el("p", {}, "Source ", link(`#/events?source=${source}`, source), ", heard of ", moment(build.heard_at), ". ", sentence(build)),
    el("ol", { class: "stages", "aria-label": "Steps" }, ...steps(build)));
}

export default async function stages(place, { query, signal }) {
  const asked = words(query);
  const list = el("ul", { class: "cards" });
  const none = nothing();
  let [items, cursor] = [[], null];
  const draw = () => {
    reconcile(list, items, (it) => `${it.source} ${it.build}`, card);
    none.hidden = items.length > 0;
    more.hidden = cursor === null;
  };
  const work = async () => {
    if (items.length > PAGE) return;
    const got = await readPage("stages", asked, null, PAGE);
    [items, cursor] = [got.items, got.next];
    draw();
  };
  const more = button("Older", async () => {
    const got = await readPage("stages", asked, cursor, PAGE);
    // A build of which something was heard meanwhile stands on the first page.
    const here = new Set(items.map((it) => `${it.source} ${it.build}`));
    [items, cursor] = [[...items, ...got.items.filter((it) => !here.has(`${it.source} ${it.build}`))], got.next];
    draw();
  });
  const { items: sources } = await get("sources");
  const watching = sources.filter((it) => it.watches_builds).map((it) => it.source);
  add(none, watching.length > 0 ? "No build is like this." : "No source watches builds: add stages to a source whose provider has a known order of steps.");
  strangers(query).then((said) => add(none, ...said), () => {});
  add(place,
    el("h1", {}, "Stages"),
    el("p", { class: "note" }, "Builds and their steps. A provider does not say when it loses one: a step that others should follow is late, then missing; a build of which nothing is heard is stalled. Each is also an event, ",
      link("#/events?event=everhook.*", "everhook.*"), "."),
    views("stages"), filters("stages", query, FILTERS), list, none, el("p", {}, more));
  more.hidden = true;
  await keep(work, { signal, every: EVERY_MS, wants: (name) => name === "accepted" });
}
