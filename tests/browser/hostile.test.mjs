// Whatever a sender, a target or a link says is shown as the text it is: nothing runs, nothing hides, nothing breaks the
// layout, on a wide screen and on a phone.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { browser, everhook, receiver, SOURCES, tab, until } from "./harness.mjs";

const SCRIPT = '<script>window.pwned=1</script><img src=x onerror="window.pwned=1"><svg onload="window.pwned=1">';
const TURN = "\u202egnp.exe\u2066\u200b\ufeff";
const ANSI = "\u001b[31mred\u001b]8;;http://evil.example\u0007\u009b2J";
const WORD = "x".repeat(3_000);
const MIB = 1024 * 1024;

let window;
before(async () => { window = await browser(); });
after(() => window.close());

/** What must hold of a page, whatever it shows. */
async function holds(it, what) {
  const { page, faults, overflow } = it;
  assert.deepEqual(faults, [], what);
  assert.equal(await page.evaluate(() => globalThis.pwned), undefined, what);
  assert.equal(await overflow(), 0, `${what}: wider than its window`);
  const strangers = "main script, main img, main iframe, main object, main embed, main style, main link, main form[action], main a[href^='javascript:'], main a[href^='http']";
  assert.equal(await page.locator(strangers).count(), 0, `${what}: an element that a text made`);
  const hidden = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/;
  const text = await page.evaluate(() => document.body.innerText);
  assert.doesNotMatch(text, hidden, `${what}: a character that nobody sees`);
  const titles = await page.evaluate(() => [...document.querySelectorAll("[title], [aria-label]")].map((one) => `${one.title} ${one.ariaLabel}`).join(" "));
  assert.doesNotMatch(titles, hidden, `${what}: a title`);
}

test("scripts, direction marks and terminal codes in every field are shown as texts", async () => {
  const body = JSON.stringify({ error: SCRIPT, more: TURN + ANSI });
  const rude = await receiver(() => [422, { "x-why": SCRIPT, "retry-after": SCRIPT, "content-type": SCRIPT }, body]);
  const relay = await everhook(`${SOURCES}[source.build]\nprovider = "buildpixel"\nsecret = "plain:s"\n[source.games]\nprovider = "streampixel"\nstages = { gap_after = "1s", stall_after = "1h" }\n[target.rude]\nurl = "${rude.url}"\nfrom = ["shop", "raw"]\nretry = { give_up = [422] }\n`);
  const fields = { "x-script": SCRIPT, "content-type": "application/json", "x-latin": "a\u00e9\u009b", "user-agent": WORD };
  const name = `${SCRIPT}${TURN}`;
  const content = { event: name, [SCRIPT]: SCRIPT, [TURN]: TURN, ansi: ANSI, long: WORD, arabic: "\u0645\u0631\u062d\u0628\u0627 (abc)", __proto__x: 1, big: 0 };
  const text = JSON.stringify(content).replace('"big":0', '"big":12345678901234567890123,"__proto__":{"pwned":1},"constructor":{}');
  const id = await relay.send(text, fields);
  const blob = await relay.send(new Uint8Array([0, 255, 27, 91, 51, 49, 109]), { "content-type": "application/octet-stream" }, "raw");
  await relay.send({ event: WORD.slice(0, 120) });
  await relay.send(JSON.stringify({ type: SCRIPT, more: TURN + ANSI }), { "x-script": SCRIPT }, "build");
  const upload = `${SCRIPT}${TURN}${WORD.slice(0, 60)}`;
  await relay.send({ event: "build.extracting", projectId: "p", uploadId: upload, objection: null }, {}, "games");
  assert.equal((await relay.api("GET", "stages")).items.length, 1);
  await until("all is dead", async () => (await relay.api("GET", "dead-letters")).items.length === 3);
  const rejected = (await relay.api("GET", "rejections")).items[0].id;
  const link = encodeURIComponent(`${SCRIPT}${TURN}`);
  const pages = ["#/", "#/events", `#/events/${id}`, `#/events/${blob}`, "#/targets", "#/dead-letters", "#/rejections", `#/rejections/${rejected}`, "#/sources", "#/stages",
    `#/stages?q=${link}&state=${link}`, `#/events?q=${link}&source=${link}&state=${link}`, `#/dead-letters?reason=${link}`, `#/events/${link}`, `#/${link}`, "#/events/..%2f..%2fstats", "#/%E0%A4%A"];
  for (const size of ["wide", "phone"]) {
    const it = await tab(window, relay, { size });
    for (const hash of pages) {
      await it.open(hash);
      for (const summary of await it.page.locator("details.attempt > summary").all()) await summary.click();
      await holds(it, `${hash} ${size}`);
    }
    await it.close();
  }

  const it = await tab(window, relay);
  const { page } = it;
  await it.open(`#/events/${id}`);
  assert.ok((await page.locator("h1").innerText()).startsWith("<script>window.pwned=1</script>"));
  assert.match(await page.locator("h1").innerText(), /⟨U\+202E⟩gnp/);
  assert.match(await page.locator(".tree").last().innerText(), /12345678901234567890123/, "a number is not rounded");
  await page.locator("section", { has: page.getByRole("heading", { name: "Body", exact: true }) }).getByRole("button", { name: "Raw" }).click();
  await holds(it, "raw");
  await page.getByRole("button", { name: "Copy as curl" }).click();
  const command = await page.locator("dialog textarea").inputValue();
  assert.doesNotMatch(command, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/, "nothing that a terminal obeys");
  await page.getByRole("button", { name: "Close" }).last().click();
  await page.getByRole("button", { name: "Edit and resend" }).click();
  await page.locator("dialog textarea").first().waitFor();
  await holds(it, "edit and resend");
  await it.close();
  await Promise.all([relay.stop(), rude.stop()]);
});

test("a body of 1 MiB, one deep and one of many members are shown as far as they are looked at", async () => {
  const relay = await everhook(SOURCES, {});
  const fill = (most) => "ab ".repeat(Math.floor(most / 3));
  const long = await relay.send({ event: "long", text: fill(MIB - 1_000) });
  const line = await relay.send(fill(MIB - 100), { "content-type": "text/plain" }, "raw");
  const deep = await relay.send(`${"[".repeat(100_000)}${"]".repeat(100_000)}`, {}, "raw");
  const many = await relay.send({ event: "many", all: Object.fromEntries(Array.from({ length: 40_000 }, (_, at) => [`k${at}`, at])) });
  for (const size of ["wide", "phone"]) {
    const it = await tab(window, relay, { size });
    for (const [name, id] of Object.entries({ long, line, deep, many })) {
      const began = Date.now();
      await it.open(`#/events/${id}`);
      await it.page.getByRole("heading", { name: "Header fields", exact: true }).waitFor();
      const nodes = await it.page.evaluate(() => document.querySelectorAll("*").length);
      assert.ok(nodes < 2_000, `${name}: ${nodes} elements`);
      await holds(it, `${name} ${size}`);
      const raw = it.page.getByRole("button", { name: "Raw" });
      if (await raw.count() > 0) await raw.first().click();
      const more = it.page.getByRole("button", { name: /^Show more/ });
      const pieces = it.page.locator("pre.code > div");
      for (let left = 12; left > 0 && await more.count() > 0; left -= 1) {
        const before = await pieces.count();
        await more.click();
        await until("a piece more", async () => await pieces.count() > before);
      }
      assert.equal(await more.count(), 0, `${name}: all of it is shown`);
      await holds(it, `${name} ${size}, all of it`);
      console.log(`# ${name} ${size}: ${nodes} elements, ${Date.now() - began} ms`);
    }
    await it.close();
  }
  await relay.stop();
});
