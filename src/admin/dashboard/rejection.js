// One refused request whole.

import { el, add, link, button } from "/assets/dom.js";
import { get } from "/assets/api.js";
import { badge, headerTable, moment } from "/assets/parts.js";
import { short } from "/assets/format.js";
import { CAUSES } from "/assets/words.js";
import { showBody } from "/assets/body.js";
import { discard, release } from "/assets/rejections.js";

export default async function rejection(place, { id }) {
  const it = await get(`rejections/${encodeURIComponent(id)}`);
  const chosen = { ids: [it.id] };
  add(place,
    el("p", { class: "crumbs" }, link("#/rejections", "Rejections"), " / ", it.id),
    el("h1", {}, "Refused request"),
    el("p", {}, badge(it.cause, "warn"), " ", CAUSES[it.cause] ?? "", "."),
    el("dl", {},
      el("dt", {}, "Source"), el("dd", {}, link(`#/rejections?source=${it.source}`, it.source)),
      el("dt", {}, "Received"), el("dd", {}, moment(it.received_at)),
      el("dt", {}, "From"), el("dd", { class: "mono" }, it.client),
      el("dt", {}, "Its sender was told"), el("dd", {}, it.held ? "200: it is held until it is released" : "that it is refused"),
      it.query && [el("dt", {}, "Query"), el("dd", { class: "mono" }, el("bdi", {}, short(it.query, 2000)))]),
    el("div", { class: "buttons" },
      button("Release", async () => {
        const released = await release(chosen, true);
        const event = released?.items[0]?.event;
        if (event) location.hash = `#/events/${event}`;
      }, { class: "main" }),
      button("Give up", async () => { if (await discard(chosen, true)) location.hash = "#/rejections"; }, { class: "quiet" })),
    el("section", {}, el("h2", {}, "Body"), showBody(it.body, it.headers, "It has no body.")),
    el("section", {}, el("h2", {}, "Header fields"), headerTable(it.headers, "Header fields of the request")));
}
