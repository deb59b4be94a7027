// Somebody who sees the page for the first time finds out why a delivery failed, and tries it again.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { browser, everhook, receiver, SOURCES, tab, until } from "./harness.mjs";

let window;
before(async () => { window = await browser(); });
after(() => window.close());

test("within five clicks a newcomer knows why a delivery failed and has tried it again", async () => {
  let isBroken = true;
  const billing = await receiver(() => (isBroken ? [422, {}, '{"error":"amount must be a number"}'] : 200));
  const relay = await everhook(`${SOURCES}[target.billing]\nurl = "${billing.url}"\nretry = { give_up = [422] }\n`);
  const id = await relay.send({ event: "order.paid", amount: "12,50" });
  await until("a dead letter", async () => (await relay.api("GET", "dead-letters")).items.length === 1);
  const { page, faults, open, close } = await tab(window, relay);
  let clicks = 0;
  const click = async (it) => { clicks += 1; await it.click(); };

  await open();
  await page.getByText("billing has 1 dead letter").waitFor();
  await click(page.getByRole("listitem").filter({ hasText: "1 dead letter" }).getByRole("link", { name: "Show" }));
  await page.getByText("the target understood the request and refuses its content").waitFor();
  await click(page.getByRole("link", { name: id.slice(-10) }));
  await click(page.locator(".timeline summary", { hasText: "422" }));
  await page.getByText("amount must be a number").first().waitFor();
  isBroken = false;
  await click(page.getByRole("button", { name: "Retry" }));
  await page.locator(".deliveries", { hasText: "delivered" }).waitFor();

  assert.ok(clicks <= 5, `${clicks} clicks`);
  assert.deepEqual(billing.got.map((it) => it.id), [id, id]);
  assert.deepEqual(faults, []);
  await Promise.all([close(), relay.stop(), billing.stop()]);
});

test("a delivery that waits says why and until when, and that a replay leaves it to its schedule", async () => {
  const crm = await receiver(() => 500);
  const relay = await everhook(`${SOURCES}[target.crm]\nurl = "${crm.url}"\nretry = { initial = "1h", factor = 1.0, max = "1h", jitter = 0.0 }\n`);
  const id = await relay.send({ event: "order.paid" });
  const { page, faults, open, close } = await tab(window, relay);
  await open(`#/events/${id}`);
  await page.getByText("its own log says why").first().waitFor();
  await page.locator(".deliveries", { hasText: "Next attempt in 59m" }).waitFor();
  await page.getByRole("button", { name: "Replay to all targets" }).click();
  await page.getByText("what is pending is left to its schedule").waitFor();
  assert.equal(crm.got.length, 1);
  assert.deepEqual(faults, []);
  await Promise.all([close(), relay.stop(), crm.stop()]);
});
