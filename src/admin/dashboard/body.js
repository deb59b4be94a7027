// A body as a tree, where it is JSON, or as the text it is. Both are made as far as they are looked at.

import { el, add, button } from "/assets/dom.js";
import { bytes, count, short } from "/assets/format.js";

/** Characters of a text, and of one value in a tree, that are shown at first. */
const TEXT = 32 * 1024;
const VALUE = 2_000;
/** Members of one level that are shown at a time, and levels that are open at first. */
const MEMBERS = 100;
const OPEN_LEVELS = 2;
const OPEN_MEMBERS = 30;
/** Bytes of a line of bytes, and of all that are shown. */
const LINE = 16;
const BYTES = 4 * 1024;

/** A number that would not be the same after reading it. */
class Exactly {
  constructor(source) {
    this.source = source;
  }
}

function parse(text) {
  const keep = (_key, value, context) =>
    (typeof value === "number" && context?.source !== undefined && String(value) !== context.source ? new Exactly(context.source) : value);
  try {
    return { value: JSON.parse(text, keep) };
  } catch {
    return null;
  }
}

function leaf(value) {
  if (value instanceof Exactly) return el("span", { class: "json-number" }, value.source);
  if (typeof value === "string") {
    const cut = value.length > VALUE;
    return [el("bdi", { class: "json-string" }, JSON.stringify(short(value, VALUE))), cut && el("span", { class: "note" }, ` ${count(value.length)} characters`)];
  }
  return el("span", { class: value === null ? "json-null" : `json-${typeof value}` }, String(value));
}

const isBranch = (value) => typeof value === "object" && value !== null && !(value instanceof Exactly);

function members(value) {
  return Array.isArray(value) ? value.map((one, at) => [at, one]) : Object.entries(value);
}

function node(name, value, level) {
  const label = name === null ? null : [el("bdi", { class: "json-key" }, short(String(name), 200)), ": "];
  if (!isBranch(value)) return el("li", {}, label, leaf(value));
  const all = members(value);
  const size = Array.isArray(value) ? `[${count(all.length)}]` : `{${count(all.length)}}`;
  if (all.length === 0) return el("li", {}, label, el("span", { class: "json-null" }, Array.isArray(value) ? "[]" : "{}"));
  const list = el("ul", {});
  const more = (from) => {
    for (const [key, one] of all.slice(from, from + MEMBERS)) list.append(node(key, one, level + 1));
    const next = from + MEMBERS;
    if (next >= all.length) return;
    const go = el("li", {}, button(`${count(all.length - next)} more`, () => { go.remove(); more(next); }, { class: "quiet" }));
    list.append(go);
  };
  const whole = el("details", {}, el("summary", {}, label, el("span", { class: "note" }, size)), list);
  whole.addEventListener("toggle", () => { if (whole.open && list.childElementCount === 0) more(0); });
  if (level < OPEN_LEVELS && all.length <= OPEN_MEMBERS) {
    whole.open = true;
    more(0);
  }
  return el("li", {}, whole);
}

function raw(text) {
  const field = el("pre", { class: "code", tabindex: "0" });
  const fill = (most) => {
    field.replaceChildren();
    add(field, text.slice(0, most));
  };
  fill(TEXT);
  if (text.length <= TEXT) return field;
  const all = button(`Show all ${count(text.length)} characters`, () => { fill(text.length); all.remove(); });
  return el("div", {}, field, all);
}

function decoded(base64) {
  const text = atob(base64.slice(0, Math.ceil(BYTES / 3) * 4));
  return Uint8Array.from(text, (c) => c.charCodeAt(0));
}

/** Bytes as hexadecimal numbers, and as what of them is ASCII. */
function dump(base64) {
  const all = decoded(base64);
  const lines = [];
  for (let at = 0; at < all.length; at += LINE) {
    const line = [...all.slice(at, at + LINE)];
    const hex = line.map((b) => b.toString(16).padStart(2, "0")).join(" ").padEnd(LINE * 3);
    const ascii = line.map((b) => (b >= 0x20 && b < 0x7f ? String.fromCharCode(b) : ".")).join("");
    lines.push(`${at.toString(16).padStart(6, "0")}  ${hex} ${ascii}`);
  }
  return el("pre", { class: "code", tabindex: "0" }, lines.join("\n"));
}

/** A body; `headers` say what it is, `none` is said where there is none. */
export function showBody(body, headers, none) {
  if (body.size === 0) return el("p", { class: "nothing" }, none);
  const kind = headers.find(([name]) => name === "content-type")?.[1];
  const cut = body.truncated ? ", of which the beginning is shown" : "";
  const about = el("span", { class: "note" }, kind ? [el("bdi", {}, short(kind, 200)), ", "] : null, `${bytes(body.size)}${cut}`);
  if (body.encoding === "base64") {
    return el("div", {}, el("div", { class: "bar" }, about), dump(body.data),
      body.size > BYTES && el("p", { class: "note" }, `The first ${bytes(BYTES)}.`));
  }
  const tree = body.truncated ? null : parse(body.data);
  const place = el("div", {});
  if (!tree || !isBranch(tree.value)) return el("div", {}, el("div", { class: "bar" }, about), add(place, raw(body.data)));
  const choices = [["Tree", () => el("ul", { class: "tree" }, node(null, tree.value, 0))], ["Raw", () => raw(body.data)]];
  const buttons = choices.map(([label, make]) => el("button", { type: "button", class: "quiet", "aria-pressed": "false", onclick: (event) => {
    for (const other of buttons) other.setAttribute("aria-pressed", String(other === event.currentTarget));
    place.replaceChildren(make());
  } }, label));
  buttons[0].click();
  return el("div", {}, el("div", { class: "bar" }, about, ...buttons), place);
}
