// Makes the pictures of docs/dashboard.md.

import { browser, everhook, receiver, SOURCES, tab, until } from "./harness.mjs";

const DOCS = new URL("../../docs/", import.meta.url).pathname;
const NAMES = ["order.paid", "order.created", "refund.made"];

const archive = await receiver();
const billing = await receiver((it) => (it.headers["everhook-event"] === "refund.made" ? [422, {}, '{"error":"amount must be a number","field":"amount"}'] : 200));
const crm = await receiver(() => [503, { "retry-after": "120" }, "busy"]);
const relay = await everhook(`${SOURCES}
[source.build]
provider = "buildpixel"
secret = "plain:demo"
[source.games]
provider = "streampixel"
public_url = "https://hooks.example.com/in/games"
stages = { gap_after = "1s", stall_after = "3s" }
[target.archive]
url = "${archive.url}"
from = ["shop"]
[target.billing]
url = "${billing.url}"
from = ["shop"]
retry = { give_up = [422] }
[target.crm]
url = "${crm.url}"
from = ["shop"]
events = ["order.created"]
`);
let id;
for (let n = 0; n < 24; n += 1) {
  const event = NAMES[n % NAMES.length];
  id = await relay.send({ event, order: { id: 4711 + n, amount: "12,50", currency: "EUR", items: [{ sku: "A-1", count: 2 }, { sku: "B-7", count: 1 }] } }, { "x-request-id": `req-${n}` });
}
await relay.send("{}", {}, "build");
await until("dead letters", async () => (await relay.api("GET", "dead-letters")).items.length === 8);

const step = (uploadId, event) => relay.send({ event: `build.${event}`, projectId: "demo", uploadId, objection: null }, {}, "games");
for (const event of ["uploaded", "extracting"]) await step("4711", event);
await until("it is stuck", async () => (await relay.api("GET", "stages?state=stalled")).items.length === 1);
for (const event of ["uploaded", "downloading", "extracting", "saving", "approved"]) await step("4712", event);
for (const event of ["uploaded", "downloading"]) await step("4713", event);

const window = await browser();
async function shoot(name, hash, { size = "wide", colours = "light", height, before = async () => {} } = {}) {
  const it = await tab(window, relay, { size, colours });
  await it.open(hash);
  await it.page.locator("#state", { hasText: "live" }).waitFor();
  await before(it.page);
  const { width } = it.page.viewportSize();
  await it.page.setViewportSize({ width, height });
  await it.page.screenshot({ path: `${DOCS}dashboard-${name}.png` });
  await it.close();
}
const openAttempt = (page) => page.locator("details.attempt > summary", { hasText: "422" }).click();
await shoot("overview", "#/", { height: 900 });
await shoot("event", `#/events/${id}`, { height: 1200, before: openAttempt });
await shoot("dead-letters", "#/dead-letters", { height: 760 });
await shoot("stages", "#/stages", { height: 620 });
await shoot("phone", `#/events/${id}`, { size: "phone", colours: "dark", height: 740 });
await window.close();
await Promise.all([relay.stop(), archive.stop(), billing.stop(), crm.stop()]);
