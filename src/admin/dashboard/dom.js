// How everything gets onto the page: elements whose texts are texts. Nothing here or elsewhere reads markup.

import { visible } from "/assets/format.js";

const SVG = "http://www.w3.org/2000/svg";

/** Adds children: nodes as they are, anything else as text in which nothing is invisible. */
export function add(parent, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    parent.append(child instanceof Node ? child : visible(String(child)));
  }
  return parent;
}

function dress(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled" || name === "indeterminate") element[name] = value;
    else if (name === "title" || name.startsWith("aria-")) element.setAttribute(name, visible(String(value)));
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  return element;
}

/** An element with attributes; `onclick` and its like are listeners. */
export function el(tag, attributes = {}, ...children) {
  return add(dress(document.createElement(tag), attributes), ...children);
}

/** The same for drawings. */
export function svg(tag, attributes = {}, ...children) {
  return add(dress(document.createElementNS(SVG, tag), attributes), ...children);
}

/** A link to one of our own pages. */
export function link(hash, ...children) {
  return el("a", { href: hash }, ...children);
}

/** A button; while what it started runs, it cannot be pressed again. */
export function button(label, act, attributes = {}) {
  const it = el("button", { type: "button", ...attributes }, label);
  it.addEventListener("click", async () => {
    it.disabled = true;
    try {
      await act();
    } catch (error) {
      say(error.message, true);
    } finally {
      it.disabled = false;
    }
  });
  return it;
}

/** Says something where eyes and screen readers notice it. */
export function say(text, bad = false) {
  const place = document.getElementById("said");
  const it = el("p", { class: bad ? "bad" : "good" }, text);
  it.append(el("button", { type: "button", class: "quiet", "aria-label": "Close", onclick: () => it.remove() }, "×"));
  place.append(it);
  while (place.children.length > 3) place.firstChild.remove();
  setTimeout(() => it.remove(), bad ? 20_000 : 8_000);
}

/** A table with named columns. `columns`: [label, class]. */
export function table(caption, columns, rows = []) {
  // The roles are said, since a table that is laid out as cards loses its own.
  const head = columns.map(([label, kind]) => el("th", { role: "columnheader", scope: "col", class: kind }, label));
  const body = el("tbody", { role: "rowgroup" }, ...rows);
  const whole = el("table", { role: "table" }, el("caption", { class: "hidden" }, caption),
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...head)), body);
  return { whole: el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, whole), body };
}

/** A row; each cell is told its column for narrow screens. */
export function row(columns, cells, attributes = {}) {
  const made = cells.map((cell, index) => {
    const [label, kind] = columns[index];
    return el("td", { role: "cell", "data-label": label, class: kind }, el("div", {}, cell));
  });
  return el("tr", { role: "row", ...attributes }, ...made);
}

let pressed = false;
addEventListener("pointerdown", () => { pressed = true; }, true);
for (const end of ["pointerup", "pointercancel", "blur"]) addEventListener(end, () => { pressed = false; }, true);

const FOCUSABLE = "a[href], button, input, select, textarea, summary, [tabindex]";

/** Puts `made` in place of `node`, with the focus where it was. */
function exchange(node, made) {
  const at = [...node.querySelectorAll(FOCUSABLE)].indexOf(document.activeElement);
  node.replaceWith(made);
  if (at >= 0) made.querySelectorAll(FOCUSABLE)[at]?.focus({ preventScroll: true });
}

/**
 * Brings a list up to date: what has not changed stays the same element. What a pointer may be about to click stays, too,
 * until the next time.
 */
export function reconcile(parent, items, key, make) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstChild;
  for (const item of items) {
    const name = key(item);
    const sign = JSON.stringify(item);
    let node = old.get(name);
    old.delete(name);
    if (!node || (node.sign !== sign && !pressed)) {
      const made = make(item);
      made.dataset.key = name;
      made.sign = sign;
      if (node) {
        if (node === place) place = made;
        exchange(node, made);
      }
      node = made;
    }
    if (node === place) place = node.nextSibling;
    else parent.insertBefore(node, place);
  }
  for (const left of old.values()) left.remove();
}

/** What is written in place of a list that has nothing. */
export function nothing(...children) {
  return el("p", { class: "nothing" }, ...children);
}
