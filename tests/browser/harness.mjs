// What every story needs: the real binary on ports of its own, receivers that answer as they are told, and a browser that
// reports everything that went wrong in a page.

import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const BINARY = process.env.EVERHOOK_BINARY ?? new URL("../../target/debug/everhook", import.meta.url).pathname;
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
/** A folder whose files stand in for the embedded ones while somebody works on the page. */
const PAGE = process.env.EVERHOOK_PAGE;
const PATIENCE_MS = 20_000;

/** A source that names an event by a member of its body, and one that takes any bytes. */
export const SOURCES = `
[source.shop]
provider = "custom"
event = "/event"
verify = { kind = "none" }
dedup = { key = ["header:x-twice"] }
[source.raw]
provider = "custom"
verify = { kind = "none" }
`;

/** Answers what `act(request)` says: a status, or [status, headers, body]. */
export async function receiver(act = () => 200) {
  const got = [];
  const server = createServer((request, answer) => {
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      const it = { id: request.headers["webhook-id"], headers: request.headers, body: Buffer.concat(chunks).toString() };
      got.push(it);
      const [status, headers = {}, body = ""] = [act(it)].flat();
      answer.writeHead(status, headers).end(body);
    });
  });
  await new Promise((resolve) => { server.listen(0, "127.0.0.1", resolve); });
  return {
    got,
    url: `http://127.0.0.1:${server.address().port}/`,
    stop: () => new Promise((resolve) => { server.closeAllConnections(); server.close(resolve); }),
  };
}

/** A running everhook; `body` holds its sources and targets, `admin` further keys of that section. */
export async function everhook(body, { admin = "" } = {}) {
  const home = await mkdtemp(join(tmpdir(), "everhook-browser-"));
  const config = join(home, "everhook.toml");
  // A configuration has a target; nothing listens at this one.
  const target = body.includes("[target.") ? "" : `[target.nowhere]\nurl = "http://127.0.0.1:9/"\n`;
  await writeFile(config, `[ingress]\nlisten = ["127.0.0.1:0"]\n[admin]\nlisten = "127.0.0.1:0"\n${admin}\n`
    + `[log]\nformat = "json"\n[journal]\npath = ${JSON.stringify(join(home, "journal"))}\nmin_free = "1MiB"\n${body}${target}`);
  const child = spawn(BINARY, ["serve", "-c", config], { stdio: ["ignore", "ignore", "pipe"] });
  // A story that fails does not stop what it started.
  process.once("exit", () => child.kill("SIGKILL"));
  const found = {};
  const said = [];
  const lines = createInterface({ input: child.stderr });
  await new Promise((resolve, reject) => {
    lines.on("line", (line) => {
      said.push(line);
      const fields = line.startsWith("{") ? JSON.parse(line).fields : {};
      for (const name of ["ingress", "admin"]) if (fields[name]) found[name] = `http://${fields[name]}`;
      if (found.ingress && found.admin) resolve();
    });
    child.once("exit", () => reject(new Error(`everhook ended:\n${said.join("\n")}`)));
  });
  const api = async (method, path, json, headers = {}) => {
    const answer = await fetch(`${found.admin}/api/v1/${path}`, {
      method, body: json && JSON.stringify(json), headers: { ...(json ? { "content-type": "application/json" } : {}), ...headers },
    });
    return answer.json();
  };
  return {
    ...found,
    api,
    /** Sends a webhook, and gives the id of its event. */
    send: async (content, headers = {}, source = "shop") => {
      const text = typeof content === "string" || content instanceof Uint8Array ? content : JSON.stringify(content);
      const answer = await fetch(`${found.ingress}/in/${source}`, { method: "POST", body: text, headers: { "content-type": "application/json", ...headers } });
      const told = await answer.json();
      if (!answer.ok && source !== "build") throw new Error(`refused: ${JSON.stringify(told)}`);
      return told.id;
    },
    stop: async () => {
      const ended = new Promise((resolve) => { child.once("exit", resolve); });
      child.kill("SIGTERM");
      await ended;
      await rm(home, { recursive: true });
    },
  };
}

/** Asks again until it holds. */
export async function until(what, ask) {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    const got = await ask();
    if (got) return got;
    if (Date.now() > end) throw new Error(`it did not come to this: ${what}`);
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
}

/** A browser without a network of its own. */
export async function browser() {
  return chromium.launch({
    executablePath: CHROMIUM,
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"],
  });
}

const SIZES = { wide: { width: 1200, height: 800 }, phone: { width: 360, height: 740 } };

/**
 * A tab. `faults` has every script error, refused load, dialog of a script and request to anybody else: a story ends with
 * none of them.
 */
export async function tab(window, relay, { size = "wide", colours = "light" } = {}) {
  const context = await window.newContext({ viewport: SIZES[size], colorScheme: colours, permissions: ["clipboard-read", "clipboard-write"] });
  const page = await context.newPage();
  const faults = [];
  page.setDefaultTimeout(PATIENCE_MS);
  page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
  page.on("console", (message) => {
    // That a request was answered 4xx is what some stories are about.
    if (["error", "warning"].includes(message.type()) && !message.text().startsWith("Failed to load resource")) faults.push(message.text());
  });
  page.on("dialog", (dialog) => { faults.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("request", (request) => {
    if (!request.url().startsWith(relay.admin) && !request.url().startsWith("blob:")) faults.push(`request: ${request.url()}`);
  });
  if (PAGE) await page.route("**/assets/*", (route) => route.fulfill({ path: join(PAGE, new URL(route.request().url()).pathname.replace("/assets/", "")) }));
  const open = async (hash = "#/") => {
    await page.goto(`${relay.admin}/${hash}`);
    try {
      await page.locator("#main h1").first().waitFor();
      await page.locator("#main > .loading").waitFor({ state: "detached" });
    } catch (error) {
      throw new Error(`${hash} is not shown: ${await page.locator("body").innerText()} ${faults.join()}`, { cause: error });
    }
  };
  /** Bytes by which the page is wider than its window: 0 where nothing breaks the layout. */
  const overflow = () => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  return { page, faults, open, overflow, close: () => context.close() };
}
