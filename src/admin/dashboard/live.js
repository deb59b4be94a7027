// The one stream of what happens, shared by the parts of the page. It comes back by itself when it breaks.

import { follow } from "/assets/api.js";

const PAUSE_MS = [1_000, 2_000, 5_000, 10_000];

const listeners = new Set();
let connected = false;
let place = null;

function state(word, kind) {
  place.textContent = word;
  place.className = `state ${kind}`;
}

function pause(ms) {
  return new Promise((resolve) => { setTimeout(resolve, ms); });
}

/** Begins to listen, for as long as the page is there; `where` says how the connection is. */
export async function begin(where) {
  place = where;
  let failures = 0;
  for (;;) {
    let why = "the stream ended";
    try {
      await follow((name, data) => {
        if (name === "open") {
          failures = 0;
          connected = true;
          state("live", "good");
        }
        for (const tell of listeners) tell(name, data);
      });
    } catch (error) {
      why = error.message;
    }
    connected = false;
    place.title = why;
    state(failures === 0 ? "connecting" : "not connected", failures === 0 ? "off" : "bad");
    await pause(PAUSE_MS[Math.min(failures, PAUSE_MS.length - 1)]);
    failures += 1;
  }
}

export const isConnected = () => connected;

/** Tells what happens until `signal` ends it. */
export function listen(tell, signal) {
  listeners.add(tell);
  signal.addEventListener("abort", () => listeners.delete(tell));
}

/**
 * Runs `work` now, whenever something happened that `wants` it, and every `every` milliseconds; never twice at once, never
 * more often than every `least` nor for more than a fourth of the time, and not while nobody looks. Resolves after the first
 * time.
 */
export async function keep(work, { signal, wants = () => true, least = 1_000, every = 10_000 }) {
  let [running, again, last, rest] = [false, false, 0, least];
  let timer = null;
  const run = async () => {
    timer = null;
    if (signal.aborted) return;
    if (document.hidden || running) { again = true; return; }
    [running, again, last] = [true, false, Date.now()];
    try {
      await work();
    } catch (error) {
      if (!signal.aborted && !error.status && error.status !== 0) console.error(error);
    }
    running = false;
    rest = Math.max(least, 3 * (Date.now() - last));
    plan(again ? rest : Math.max(rest, every));
  };
  const plan = (after) => {
    if (timer !== null) clearTimeout(timer);
    if (!signal.aborted) timer = setTimeout(run, after);
  };
  await work();
  last = Date.now();
  plan(every);
  listen((name, data) => {
    if (!wants(name, data) || again) return;
    again = true;
    if (!running) plan(Math.max(0, last + rest - Date.now()));
  }, signal);
  const seen = () => { if (!document.hidden) plan(0); };
  document.addEventListener("visibilitychange", seen, { signal });
  signal.addEventListener("abort", () => clearTimeout(timer));
}
