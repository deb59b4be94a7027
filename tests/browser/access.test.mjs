// With a token in the configuration the page asks for it, and keeps it for its tab alone.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { browser, everhook, SOURCES, tab } from "./harness.mjs";

const TOKEN = "letmein-1234567890-letmein-1234567890";

let window;
before(async () => { window = await browser(); });
after(() => window.close());

test("the page asks for the token, says when it is wrong, and keeps it for this tab only", async () => {
  const relay = await everhook(SOURCES, { admin: `token = "plain:${TOKEN}"` });
  await relay.send({ event: "order.paid" });
  const { page, faults, close } = await tab(window, relay);
  await page.goto(`${relay.admin}/#/events`);
  await page.getByLabel("Token").fill("wrong");
  await page.getByRole("button", { name: "Enter" }).click();
  await page.getByText("This token was not accepted.").waitFor();
  await page.getByLabel("Token").fill(TOKEN);
  await page.getByRole("button", { name: "Enter" }).click();
  await page.getByText("order.paid").waitFor();
  await page.locator("#state", { hasText: "live" }).waitFor();
  await relay.send({ event: "order.refunded" });
  await page.getByText("order.refunded").waitFor();
  const kept = await page.evaluate(() => [JSON.stringify({ ...localStorage }), document.cookie, location.href].join());
  assert.ok(!kept.includes(TOKEN));
  await page.reload();
  await page.getByText("order.refunded").waitFor();
  assert.deepEqual(faults, []);
  await close();

  const other = await tab(window, relay);
  await other.page.goto(`${relay.admin}/`);
  await other.page.getByLabel("Token").waitFor();
  await other.close();
  await relay.stop();
});

test("the page says when everhook is gone, and goes on when it is asked again", async () => {
  const relay = await everhook(SOURCES);
  const { page, open, close } = await tab(window, relay);
  await open("#/events");
  await page.locator("#state", { hasText: "live" }).waitFor();
  await relay.stop();
  await page.locator("#state", { hasText: "not connected" }).waitFor();
  await page.getByRole("link", { name: "Targets" }).click();
  await page.getByText("is it running?").waitFor();
  await close();
});
