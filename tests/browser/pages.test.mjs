// Each page, and each thing that can be done on it, with a mouse, with a keyboard and on a phone.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { browser, everhook, receiver, SOURCES, tab, until } from "./harness.mjs";

let window;
let good;
let bad;
let relay;
let isBroken = true;

before(async () => {
  window = await browser();
  good = await receiver();
  bad = await receiver(() => (isBroken ? [422, {}, "no"] : 200));
  relay = await everhook(`${SOURCES}[source.build]\nprovider = "buildpixel"\nsecret = "plain:s"\npublic_url = "https://hooks.example.com/in/build"\n`
    + `[source.games]\nprovider = "streampixel"\npath_token = "plain:canary-0123456789-canary"\nstages = { gap_after = "1s", stall_after = "3s" }\n`
    + `[target.good]\nurl = "${good.url}"\nfrom = ["shop"]\n[target.bad]\nurl = "${bad.url}"\nfrom = ["shop"]\nevents = ["bad.*"]\nretry = { give_up = [422] }\n`);
});
after(() => Promise.all([window.close(), relay.stop(), good.stop(), bad.stop()]));

/** A tab on one page, which must end without a fault. */
async function on(hash, story, options) {
  const it = await tab(window, relay, options);
  await it.open(hash);
  await story(it.page, it);
  assert.deepEqual(it.faults, []);
  await it.close();
}

const deadLetters = async (query = "") => (await relay.api("GET", `dead-letters?limit=200${query}`)).items;

async function badEvents(name, count) {
  isBroken = true;
  const ids = [];
  for (let at = 0; at < count; at += 1) ids.push(await relay.send({ event: `bad.${name}`, n: at }));
  await until("they are dead", async () => (await deadLetters(`&event=bad.${name}`)).length === count);
  return ids;
}

test("events appear as they arrive, are filtered by what the address says, and views of them are kept", async () => {
  await on("#/events", async (page) => {
    await page.locator("#state", { hasText: "live" }).waitFor();
    const id = await relay.send({ event: "order.first", note: "needle in it" });
    await page.getByRole("link", { name: id.slice(-10) }).waitFor();
    await relay.send({ event: "order.second" });
    await page.getByText("order.second").waitFor();
    await page.keyboard.press("/");
    await page.keyboard.type("NEEDLE in");
    await page.keyboard.press("Enter");
    await page.getByText("1 event", { exact: true }).waitFor();
    assert.match(page.url(), /#\/events\?q=NEEDLE\+in$/);
    await page.getByRole("button", { name: "Save this view" }).click();
    await page.getByLabel("Name of the view").fill("needles");
    await page.getByRole("button", { name: "Save", exact: true }).click();
    await page.getByRole("link", { name: "Clear" }).click();
    await page.getByText("order.second").waitFor();
    await page.getByRole("link", { name: "needles" }).click();
    await page.getByText("1 event", { exact: true }).waitFor();
    await page.getByText("More filters").click();
    await page.getByLabel("JSON pointer").fill("/note=other");
    await page.keyboard.press("Enter");
    await page.getByText("No event is like this.").waitFor();
    await page.getByLabel("Attempts at least").fill("many");
    await page.keyboard.press("Enter");
    await page.getByText("attempts takes a number").waitFor();
  });
});

test("ids and short words stay on one line, fields on one level, and a misspelt name is told", async () => {
  await relay.send({ event: `bad.line.${"long.".repeat(14)}` });
  await relay.send({ type: "build.complete", line: 1 }, {}, "build");
  await until("it is dead", async () => (await deadLetters("&event=bad.line.*")).length === 1);
  for (const hash of ["#/", "#/events", "#/dead-letters", "#/rejections"]) {
    await on(hash, async (page) => {
      await page.locator("td a.mono").first().waitFor();
      const broken = await page.evaluate(() => [...document.querySelectorAll("td a.mono, td .badge.short, td .whole")]
        .filter((it) => it.getClientRects().length > 1 || it.getBoundingClientRect().height > 26).map((it) => it.textContent));
      assert.deepEqual(broken, [], hash);
      const levels = await page.evaluate(() => [...document.querySelectorAll("form > .field > input, form > .field > select")]
        .map((it) => Math.round(it.getBoundingClientRect().top)));
      assert.ok(new Set(levels).size <= 1, `${hash}: ${levels}`);
    });
  }
  for (const hash of ["#/events?source=shpo", "#/dead-letters?target=bda", "#/rejections?source=shpo", "#/stages?source=shpo"]) {
    await on(hash, async (page) => { await page.getByText(/No (source|target) is called "(shpo|bda)"; there are /).waitFor(); });
  }
  await on("#/events", async (page) => {
    await page.locator("datalist#known-sources option[value=shop]").waitFor({ state: "attached" });
    await page.locator("datalist#known-targets option[value=good]").waitFor({ state: "attached" });
  });
});

test("a replay of all that the events page shows is watched there, says what it is about, and is cancelled", async () => {
  for (let at = 0; at < 8; at += 1) await relay.send({ event: "job.slow", n: at });
  await until("delivered", async () => (await relay.api("GET", "deliveries?event=job.slow&state=delivered")).items.length === 8);
  await on("#/events?event=job.slow", async (page) => {
    await page.getByRole("button", { name: "Replay all of these" }).click();
    await page.locator("dialog").getByText("Chosen by: event job.slow").waitFor();
    await page.getByLabel("Events a second at most").fill("1");
    await page.locator("dialog").getByRole("button", { name: "Deliver again" }).click();
    await page.locator(".jobs", { hasText: "running" }).getByText("event job.slow").waitFor();
    await page.locator(".jobs").getByRole("button", { name: "Cancel" }).click();
    await page.locator("dialog").getByRole("button", { name: "Cancel the job" }).click();
    await page.locator(".jobs", { hasText: "cancelled" }).waitFor();
  });
});

test("older events are read on, and what is new keeps arriving above them", async () => {
  for (let at = 0; at < 70; at += 1) await relay.send({ event: "page.old", n: at });
  await on("#/events?event=page.*", async (page) => {
    const rows = page.locator("tbody tr");
    await until("a page", async () => await rows.count() === 50);
    await page.getByRole("button", { name: "Older" }).click();
    await until("all", async () => await rows.count() === 70);
    await relay.send({ event: "page.new" });
    await page.getByText("page.new").waitFor();
    assert.equal(await rows.count(), 71);
  });
});

test("one event is replayed, changed and sent again, copied as a command and downloaded", async () => {
  const id = await relay.send({ event: "order.one", deep: { a: [1, { b: null }] } }, { "x-request-id": "r1" });
  await on(`#/events/${id}`, async (page) => {
    await page.locator(".deliveries", { hasText: "answered 200" }).waitFor();
    await page.getByRole("button", { name: "Replay to all targets" }).click();
    await page.getByText("1 delivery is due now.").waitFor();
    await until("it came again", () => good.got.filter((it) => it.id === id).length === 2);
    await until("two attempts", async () => await page.locator("details.attempt").count() === 2);
    await page.locator("details.attempt > summary").first().click();
    await page.getByText("Waiting for the answer").first().waitFor();

    await page.getByRole("button", { name: "Copy as curl" }).click();
    const command = await page.locator("dialog textarea").inputValue();
    assert.match(command, /^curl -X POST .*x-request-id: r1.*--data-binary .*in\/shop'$/s);
    await page.getByRole("button", { name: "Copy", exact: true }).click();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), command);
    await page.keyboard.press("Escape");

    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Download body" }).click()]);
    assert.equal(download.suggestedFilename(), `${id}.body`);

    await page.getByRole("button", { name: "Edit and resend" }).click();
    await page.getByLabel("Event name").fill("order.changed");
    await page.getByLabel("Body").fill('{"event":"order.changed"}');
    await page.getByRole("button", { name: "Send as a new event" }).click();
    await page.getByRole("heading", { name: "order.changed" }).waitFor();
    await until("it came", () => good.got.some((it) => it.body === '{"event":"order.changed"}' && it.headers["x-request-id"] === "r1"));
  });
});

test("an event says how often it came again, and from where", async () => {
  const key = { "x-twice": "1" };
  const id = await relay.send({ event: "order.twice" }, key);
  for (let at = 0; at < 22; at += 1) assert.equal(await relay.send({ event: "order.twice" }, key), id);
  await on(`#/events/${id}`, async (page) => {
    const repeats = page.locator(".timeline li", { hasText: "it came once more from 127.0.0.1" });
    await repeats.first().waitFor();
    assert.equal(await repeats.count(), 20);
    await page.getByText("2 repeats before those that follow").waitFor();
  });
});

test("a target is paused, resumed and tried", async () => {
  await on("#/targets", async (page) => {
    const card = page.locator(".card", { has: page.getByRole("heading", { name: /^good/ }) });
    await card.getByRole("button", { name: "Pause good" }).click();
    await page.locator("dialog").getByRole("button", { name: "Pause" }).click();
    await card.getByText("An operator paused it.").waitFor();
    const id = await relay.send({ event: "order.held" });
    await card.getByText("1 ready").waitFor();
    await card.getByRole("button", { name: "Resume good" }).click();
    await until("it came", () => good.got.some((it) => it.id === id));
    await card.getByRole("button", { name: "Send a test event to good" }).click();
    await card.getByText(/Test event .*: 200 delivered/).waitFor();
    assert.ok(good.got.some((it) => it.headers["everhook-event"] === "everhook.test"));
  });
});

test("dead letters are counted by reason, and retried or given up together or as chosen, after the count was shown", async () => {
  await badEvents("all", 5);
  await badEvents("other", 3);
  await on("#/dead-letters?event=bad.all", async (page) => {
    await page.getByText("5 dead letters").first().waitFor();
    isBroken = false;
    await page.getByRole("button", { name: "Retry all refused of bad" }).click();
    await page.getByText("5 deliveries of 5 events.").waitFor();
    await page.locator("dialog").getByRole("button", { name: "Retry" }).click();
    await page.getByText("There are no dead letters like this.").waitFor();
    await until("they are delivered", async () => (await relay.api("GET", "deliveries?event=bad.all&state=delivered")).items.length >= 5);
    await page.locator(".jobs", { hasText: "done" }).waitFor();
  });
  isBroken = true;
  await on("#/dead-letters?event=bad.other", async (page) => {
    await page.getByRole("checkbox", { name: /^Choose/ }).nth(1).check();
    await page.getByText("1 is chosen").waitFor();
    await page.getByRole("button", { name: "Discard these" }).click();
    await page.getByText("1 delivery of 1 event.").waitFor();
    await page.locator("dialog").getByRole("button", { name: "Give up" }).click();
    await page.getByText("2 dead letters").first().waitFor();
    await page.getByRole("button", { name: "Discard all refused of bad" }).click();
    await page.locator("dialog").getByRole("button", { name: "Cancel" }).click();
    assert.equal((await deadLetters("&event=bad.other")).length, 2);
    isBroken = false;
    await page.getByRole("button", { name: /^Retry evt_/ }).first().click();
    await page.getByText("1 dead letter", { exact: true }).waitFor();
  });
});

test("a refused request says why, is released once its sender is known, or given up", async () => {
  await relay.send({ type: "build.complete", n: 1 }, {}, "build");
  await relay.send({ type: "build.failed", n: 2 }, {}, "build");
  await on("#/rejections", async (page) => {
    await page.getByText("nothing proves where it came from").first().waitFor();
    await page.locator("tbody a").first().click();
    await page.getByRole("heading", { name: "Refused request" }).waitFor();
    await page.getByRole("button", { name: "Release" }).click();
    await page.locator("dialog").getByRole("button", { name: "Release" }).click();
    await page.getByText("1 refused again.").waitFor();
    await page.getByRole("button", { name: "Release" }).first().click();
    await page.getByLabel("Let in whatever it proves").check();
    await page.locator("dialog").getByRole("button", { name: "Release" }).click();
    await page.getByRole("heading", { name: "build.failed" }).waitFor();
    await page.getByRole("link", { name: "Rejections" }).click();
    await page.getByLabel("Since").fill("2h");
    await page.keyboard.press("Enter");
    await page.getByText("everhook rejections release --since 3h").waitFor();
    assert.equal(await page.getByRole("button", { name: "Give up all of these" }).count(), 0);
    await page.getByRole("link", { name: "Clear" }).click();
    await page.getByRole("button", { name: "Give up all of these" }).click();
    await page.locator("dialog").getByRole("button", { name: "Give up" }).click();
    await page.getByText("No refused request is kept like this.").waitFor();
  });
});

test("a build shows its steps, what is late and then missing, and that it got stuck", async () => {
  const step = (uploadId, event) => relay.send({ event: `build.${event}`, projectId: "p", uploadId, objection: null }, {}, "games/canary-0123456789-canary");
  await on("#/stages", async (page) => {
    await page.getByText("No build is like this.").waitFor();
    await page.locator("#state", { hasText: "live" }).waitFor();
    for (const event of ["uploaded", "downloading", "extracting", "saving", "approved"]) await step("whole", event);
    await step("odd", "uploaded");
    await step("odd", "extracting");
    const card = (name) => page.locator(".card", { has: page.getByRole("heading", { name }) });
    await card(/whole/).getByText("Its last step came.").waitFor();
    assert.equal(await card(/whole/).locator("li.good").count(), 5);
    await card(/odd/).getByText("1 missing").waitFor();
    await card(/odd/).locator("li.bad", { hasText: "build.downloading" }).waitFor();
    await card(/odd stalled/).getByText("Nothing was heard of it").waitFor();
    await page.getByLabel("State").selectOption("stalled");
    await card(/odd/).waitFor();
    assert.equal(await page.locator(".card").count(), 1);
    assert.match(page.url(), /#\/stages\?state=stalled$/);
    await page.getByLabel("Steps missing").selectOption("true");
    await card(/odd/).waitFor();
    await page.getByLabel("Steps missing").selectOption("false");
    await page.getByText("No build is like this.").waitFor();
    await page.getByLabel("Steps missing").selectOption("");
    await card(/odd/).waitFor();
    await page.getByLabel("Text in the build's key").fill("WHOLE");
    await page.keyboard.press("Enter");
    await page.getByText("No build is like this.").waitFor();
  });
});

test("a source says what to paste at the provider, and the configuration is read again", async () => {
  await on("#/sources", async (page) => {
    const card = page.locator(".card", { has: page.getByRole("heading", { name: /^build/ }) });
    assert.equal(await card.getByRole("textbox", { name: "URL of build" }).inputValue(), "https://hooks.example.com/in/build");
    assert.match(await page.getByRole("textbox", { name: "URL of games" }).inputValue(), /:\d+\/in\/games\/PATH_TOKEN$/);
    assert.doesNotMatch(await page.content(), /canary/);
    const shop = page.locator(".card", { has: page.getByRole("heading", { name: /^shop/ }) });
    await shop.locator("dt:text-is('event name') + dd", { hasText: "/event" }).waitFor();
    await card.getByRole("button", { name: "Copy: Command that sends a sample to build" }).click();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "everhook send build");
    await page.getByRole("link", { name: "Overview" }).click();
    await page.getByRole("button", { name: "Read the configuration again" }).click();
    await page.getByRole("button", { name: "Read it" }).click();
    await page.getByRole("heading", { name: "The configuration is in effect" }).waitFor();
  });
});

test("everything is reached by keyboard, has a name, and fits a phone, light and dark", async () => {
  const id = await relay.send({ event: "order.small" });
  for (const options of [{ size: "phone", colours: "light" }, { size: "phone", colours: "dark" }, { size: "wide", colours: "dark" }]) {
    await on("#/", async (page, { open, overflow }) => {
      for (const hash of ["#/", "#/events", `#/events/${id}`, "#/targets", "#/dead-letters", "#/rejections", "#/stages", "#/sources"]) {
        await open(hash);
        assert.equal(await overflow(), 0, `${hash} ${options.size}`);
        const nameless = await page.evaluate(() => [...document.querySelectorAll("button, a, input, select, textarea")]
          .filter((it) => !(it.innerText?.trim() || it.ariaLabel || it.labels?.length)).map((it) => it.outerHTML));
        assert.deepEqual(nameless, [], hash);
      }
    }, options);
  }
  await on("#/", async (page) => {
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
    await page.getByRole("link", { name: "Events", exact: true }).focus();
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "Events" }).waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.id), "main");
    assert.equal(await page.locator("nav a[aria-current=page]").innerText(), "Events");
    await page.getByRole("button", { name: /^Colours/ }).click();
    await page.getByRole("button", { name: "Colours: light" }).waitFor();
  });
});
