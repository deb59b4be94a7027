// Each source: how to set the provider up, how to try it, and what came of it.

import { el, add, link, button, nothing, reconcile } from "/assets/dom.js";
import { get } from "/assets/api.js";
import { copy } from "/assets/dialogs.js";
import { keep } from "/assets/live.js";
import { count, many } from "/assets/format.js";
import { badge, eventLink, foreign, moment, spark } from "/assets/parts.js";

const EVERY_MS = 5_000;

function copyable(label, text) {
  const field = el("input", { type: "text", readonly: true, value: text, class: "code", "aria-label": label });
  return el("div", { class: "copy" }, field, button("Copy", () => copy(text, field), { "aria-label": `Copy: ${label}` }));
}

function card(source) {
  const name = source.source;
  const last = source.last_event;
  const samples = source.samples;
  return el("li", { class: "card" },
    el("h2", {}, name, " ", el("span", { class: "note" }, source.title), " ", !source.verifies && badge("takes anything", "warn", "Requests prove nothing: anybody who knows the URL can send.")),
    spark([["received", "in", source.per_minute]], name),
    el("p", {}, link(`#/events?source=${name}`, many(source.accepted, "event")), `, ${many(source.duplicates, "repeat")}, ${count(source.refused)} refused since the start. `,
      source.watches_builds && [link(`#/stages?source=${name}`, "builds"), " "],
      source.rejections > 0 && link(`#/rejections?source=${name}`, `${many(source.rejections, "refused request")} kept`)),
    el("p", {}, "Latest: ", last ? [foreign(last.event, 60), " ", eventLink(last.id), " ", moment(last.received_at)] : "nothing since the start"),
    el("h3", {}, "URL to paste at the provider"), copyable(`URL of ${name}`, source.url),
    el("p", { class: "note" },
      !source.is_public_url && "This is where everhook listens: put the name in front by which the provider reaches it. With the source's public_url it stands here whole. ",
      source.needs_path_token && "Put the source's path token in place of PATH_TOKEN."),
    source.setup.length > 0 && [el("h3", {}, "What to know of it"),
      el("dl", {}, ...source.setup.map(([label, fact]) => [el("dt", {}, label), el("dd", {}, fact)]))],
    samples.length > 0 && [el("h3", {}, "Try it"), copyable(`Command that sends a sample to ${name}`, source.command),
      el("p", { class: "note" }, `Samples, with --event: ${samples.join(", ")}`)]);
}

export default async function sources(place, { signal }) {
  const list = el("ul", { class: "cards" });
  const none = nothing("No source is configured: add a [source.NAME] with a provider to the configuration.");
  const work = async () => {
    const { items } = await get("sources");
    // A field that somebody copies from stays as it is.
    if (list.contains(document.activeElement) && list.childElementCount > 0) return;
    reconcile(list, items, (it) => it.source, card);
    none.hidden = items.length > 0;
  };
  await keep(work, { signal, every: EVERY_MS, wants: (name) => name === "accepted" });
  add(place, el("h1", {}, "Sources"), list, none);
}
