// Pieces that several pages show: states, moments, names, charts, header fields.

import { el, svg, link, table, row } from "/assets/dom.js";
import { ago, exact, count, short } from "/assets/format.js";
import { STATES } from "/assets/words.js";

/** A state by colour and word. */
export function badge(word, kind, title) {
  return el("span", { class: `badge ${kind}${word.length <= 14 ? " short" : ""}`, title }, word);
}

/** The state of a delivery. */
export function state(name, reason) {
  const [word, kind] = STATES[name] ?? [name, "off"];
  return badge(reason ? `${word}: ${reason}` : word, kind);
}

/** A moment as an age that keeps itself right, and exactly in its title. */
export function moment(at) {
  if (!at) return "–";
  return el("time", { datetime: at, title: exact(at) }, ago(at));
}

/** Brings every moment on the page up to date. */
export function refreshMoments() {
  for (const it of document.querySelectorAll("time[datetime]")) {
    const text = ago(it.getAttribute("datetime"));
    if (it.textContent !== text) it.textContent = text;
  }
}

/** A text that somebody else chose: cut, kept from turning the line around it, whole in its title. */
export function foreign(text, most = 80) {
  const all = String(text);
  return el("bdi", { class: "foreign", title: all.length > most ? short(all, 2000) : null }, short(all, most));
}

/** A link to an event; the id is shown in part. */
export function eventLink(id) {
  return el("a", { href: `#/events/${id}`, title: id, class: "mono" }, `…${id.slice(-10)}`);
}

/** Columns of an hour, one a minute, the latest at the right; `series`: [name, class, counts]. */
export function spark(series, label) {
  const [, , first] = series[0];
  const height = 32;
  const sums = first.map((_, at) => series.reduce((sum, [, , counts]) => sum + counts[at], 0));
  const top = Math.max(1, ...sums);
  const bars = [];
  for (let at = 0; at < first.length; at += 1) {
    let base = height;
    for (const [, kind, counts] of series) {
      const size = counts[at] === 0 ? 0 : Math.max(1.5, (counts[at] / top) * (height - 1));
      base -= size;
      if (size > 0) bars.push(svg("rect", { x: at * 4, y: base, width: 3, height: size, class: `bar-${kind}` }));
    }
  }
  const said = series.map(([name, , counts]) => `${count(counts.reduce((a, b) => a + b, 0))} ${name}`).join(", ");
  const text = `${label}, last hour: ${said}; at most ${count(top === 1 && Math.max(...sums) === 0 ? 0 : top)} a minute`;
  const ground = svg("rect", { x: 0, y: height - 0.5, width: first.length * 4, height: 0.5, class: "bar-ground" });
  return svg("svg", { class: "spark", viewBox: `0 0 ${first.length * 4} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": text },
    svg("title", {}, text), ground, ...bars);
}

const FIELDS = [["Field", "narrow mono"], ["Value", "mono"]];

/** Header fields. */
export function headerTable(headers, caption) {
  if (headers.length === 0) return el("p", { class: "nothing" }, "No header fields.");
  const rows = headers.map(([name, value, how]) => {
    const note = how === "masked" ? badge("masked", "off", "It carries a credential or a signature, which is never shown.")
      : how === "escaped" ? badge("escaped", "off", "It is not UTF-8; other bytes are written \\xNN.") : null;
    return row(FIELDS, [el("bdi", {}, name), [el("bdi", {}, short(value, 4000)), note]]);
  });
  return table(caption, FIELDS, rows).whole;
}

/** A figure with its name; it leads somewhere if `hash` is given. */
export function figure(name, value, note, hash) {
  const inner = [el("span", { class: "name" }, name), el("span", { class: "value" }, value), el("span", { class: "note" }, note ?? "")];
  return hash ? el("a", { class: "figure", href: hash }, ...inner) : el("div", { class: "figure" }, ...inner);
}

/** The name of a target, which leads to its events. */
export function targetLink(name) {
  return link(`#/events?target=${encodeURIComponent(name)}`, name);
}
