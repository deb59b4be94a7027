// Where the page begins: which of its parts is shown, the way between them, and what keeps the moments right.

import { el, say } from "/assets/dom.js";
import { refreshMoments } from "/assets/parts.js";
import * as live from "/assets/live.js";
import overview from "/assets/overview.js";
import events from "/assets/events.js";
import event from "/assets/event.js";
import targets from "/assets/targets.js";
import dead from "/assets/dead.js";
import rejections from "/assets/rejections.js";
import rejection from "/assets/rejection.js";
import stages from "/assets/stages.js";
import sources from "/assets/sources.js";

/** Parts by the first word of the hash. Each is given its place, the rest of the path, the query and a signal that ends it. */
const PAGES = [
  ["", "Overview", overview],
  ["events", "Events", events],
  ["targets", "Targets", targets],
  ["dead-letters", "Dead letters", dead],
  ["rejections", "Rejections", rejections],
  ["stages", "Stages", stages],
  ["sources", "Sources", sources],
];
const SINGLE = { events: event, rejections: rejection };
const NAME = "everhook";
/** After this a page that could not be shown because nobody answered is tried again. */
const AGAIN_MS = 3_000;

let ended = new AbortController();
let shown = null;

function here() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  const [first, ...rest] = path.split("/").map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  return { first, rest, query: new URLSearchParams(query) };
}

async function show() {
  ended.abort();
  ended = new AbortController();
  const { signal } = ended;
  const { first, rest, query } = here();
  const known = PAGES.find(([name]) => name === first);
  for (const item of document.querySelectorAll("#nav a")) {
    const current = known && item.getAttribute("href") === `#/${known[0]}`;
    if (current) item.setAttribute("aria-current", "page");
    else item.removeAttribute("aria-current");
  }
  const page = rest.length > 0 ? SINGLE[first] : known?.[2];
  const title = known?.[1] ?? "Nothing here";
  document.title = `${title} · ${NAME}`;
  const place = el("div", { class: "page" });
  const main = document.getElementById("main");
  main.replaceChildren(place);
  // Only a move to another page takes the focus along, not a filter that changes.
  const path = [first, ...rest].join("/");
  if (shown !== null && shown !== path) main.focus({ preventScroll: false });
  shown = path;
  const loading = el("p", { class: "note loading" }, "Loading…");
  main.append(loading);
  try {
    if (page) await page(place, { id: rest[0], query, signal });
    else place.append(el("h1", {}, title), el("p", {}, "There is no such page. ", el("a", { href: "#/" }, "To the overview")));
  } catch (error) {
    if (signal.aborted) return;
    if (!place.querySelector("h1")) place.prepend(el("h1", {}, title));
    place.append(el("p", { class: "bad box" }, error.message, " ", el("a", { href: location.hash || "#/", onclick: () => show() }, "Try again")));
    if (error.status === 0 || error.status === 503) setTimeout(() => { if (!signal.aborted) show(); }, AGAIN_MS);
    else if (!error.status) console.error(error);
  } finally {
    loading.remove();
  }
}

const THEMES = ["auto", "light", "dark"];

function theme(name) {
  document.documentElement.dataset.theme = name;
  const button = document.getElementById("theme");
  button.textContent = { auto: "Auto", light: "Light", dark: "Dark" }[name];
  button.setAttribute("aria-label", `Colours: ${name}. Change`);
}

function keepTheme() {
  const kept = localStorage.getItem("everhook-theme");
  theme(THEMES.includes(kept) ? kept : "auto");
  document.getElementById("theme").addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
    localStorage.setItem("everhook-theme", next);
    theme(next);
  });
}

/** "/" goes to the search field, as in many logs. */
function keys(event) {
  const typing = event.target.closest("input, textarea, select, dialog");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const field = document.querySelector("input[type=search]");
  if (!field) return;
  event.preventDefault();
  field.focus();
}

function begin() {
  document.getElementById("nav").replaceChildren(...PAGES.map(([name, title]) => el("a", { href: `#/${name}` }, title)));
  keepTheme();
  addEventListener("hashchange", show);
  addEventListener("keydown", keys);
  addEventListener("unhandledrejection", (event) => {
    if (event.reason?.name !== "AbortError") say(event.reason?.message ?? "Something went wrong.", true);
  });
  setInterval(refreshMoments, 1000);
  live.begin(document.getElementById("state"));
  show();
}

begin();
