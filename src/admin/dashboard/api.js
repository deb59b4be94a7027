// What the page asks of the daemon. The token, where one is configured, is kept for this tab only and sent as a field:
// no other site's page can use it.

import { askToken } from "/assets/dialogs.js";

const API = "/api/v1/";
const TOKEN = "everhook-token";
const PATIENCE_MS = 30_000;

/** An answer that is not what was asked for. `status` 0: there was none. */
export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }

  /** Whether this daemon has no such route. */
  get missing() {
    return this.status === 404 || this.status === 501;
  }
}

function fields(json) {
  const token = sessionStorage.getItem(TOKEN);
  return { ...(json ? { "content-type": "application/json" } : {}), ...(token ? { authorization: `Bearer ${token}` } : {}) };
}

let asking = null;

/** Asks for the token once, however many requests were refused for want of it. */
async function newToken(used) {
  if (sessionStorage.getItem(TOKEN) !== used) return;
  asking ??= askToken(used !== null).finally(() => { asking = null; });
  const given = await asking;
  if (given === null) throw new Refused(401, "everhook asks for its token");
  sessionStorage.setItem(TOKEN, given);
}

async function send(method, path, body, signal) {
  for (;;) {
    const used = sessionStorage.getItem(TOKEN);
    const init = { method, headers: fields(body !== undefined), cache: "no-store", credentials: "omit", redirect: "error" };
    if (body !== undefined) init.body = JSON.stringify(body);
    const late = AbortSignal.timeout(PATIENCE_MS);
    init.signal = signal ?? late;
    let answer;
    try {
      answer = await fetch(API + path, init);
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Refused(0, late.aborted ? "everhook did not answer in time" : "everhook does not answer: is it running?");
    }
    if (answer.status !== 401) return answer;
    await newToken(used);
  }
}

async function problem(answer) {
  let detail = `everhook answered ${answer.status}`;
  try {
    const told = await answer.json();
    detail = [told.detail ?? detail, ...(told.mistakes ?? []).map((it) => `${it.place}: ${it.key}: ${it.problem}. ${it.remedy}`)].join("\n");
  } catch {
    // It is no JSON: the status has to do.
  }
  return new Refused(answer.status, detail);
}

async function json(method, path, body) {
  const answer = await send(method, path, body);
  if (!answer.ok) throw await problem(answer);
  return answer.json();
}

export const get = (path) => json("GET", path);
export const post = (path, body) => json("POST", path, body);
export const remove = (path) => json("DELETE", path);

/** The bytes of an event's body, exactly. */
export async function download(path) {
  const answer = await send("GET", path);
  if (!answer.ok) throw await problem(answer);
  return answer.blob();
}

/** What happens from now on: `tell(name, data)` until `signal` ends it or the connection breaks. */
export async function follow(tell, signal) {
  const answer = await send("GET", "live", undefined, signal);
  if (!answer.ok) throw await problem(answer);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  tell("open", null);
  let left = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (left + value).split("\n\n");
    left = blocks.pop();
    for (const block of blocks) {
      const lines = block.split("\n");
      const name = lines.find((line) => line.startsWith("event: "))?.slice(7);
      const data = lines.find((line) => line.startsWith("data: "))?.slice(6);
      if (name && data) tell(name, JSON.parse(data));
    }
  }
}

/** A query of names and values; lists give a name several times, nothing leaves it out. */
export function query(values) {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    for (const one of [value].flat()) if (one !== null && one !== undefined && one !== "") words.append(name, one);
  }
  const text = words.toString();
  return text ? `?${text}` : "";
}
