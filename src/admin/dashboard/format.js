// How values are written: times, amounts, and texts in which nothing can hide.

// What has no form of its own, or turns the text around it: controls, direction marks, joiners, and lone surrogates.
const HIDDEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|\r(?!\n)|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/** The text with everything invisible written out, so that it cannot turn, hide or imitate what is beside it. */
export function visible(text) {
  return text.replace(HIDDEN, (c) => `⟨U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
}

/** At most so many characters of it. */
export function short(text, most) {
  const all = [...text.slice(0, most * 2)];
  return all.length > most ? `${all.slice(0, most).join("")}…` : text;
}

const UNITS = [[86_400, "d"], [3_600, "h"], [60, "m"], [1, "s"]];

/** A span of seconds: the two largest units of it. */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  let left = Math.max(0, Math.floor(seconds));
  const parts = [];
  for (const [size, unit] of UNITS) {
    const count = Math.floor(left / size);
    left -= count * size;
    if (count > 0) parts.push(`${count}${unit}`);
    else if (parts.length > 0) break;
    if (parts.length === 2) break;
  }
  return parts.join(" ") || "0s";
}

/** How long ago, or how soon. */
export function ago(moment, now = Date.now()) {
  const seconds = (now - Date.parse(moment)) / 1000;
  if (Math.abs(seconds) < 1) return "now";
  return seconds > 0 ? `${span(seconds)} ago` : `in ${span(-seconds)}`;
}

const STAMP = { year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false };

/** The same moment exactly, here and in UTC. */
export function exact(moment) {
  const at = new Date(moment);
  if (Number.isNaN(at.getTime())) return String(moment);
  return `${at.toLocaleString("sv", STAMP)} here, ${moment}`;
}

/** Milliseconds, or seconds where there are many. */
export function millis(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms >= 10_000) return span(ms / 1000);
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`;
  return `${ms >= 100 ? Math.round(ms) : Number(ms.toPrecision(2))} ms`;
}

export function bytes(count) {
  if (count === null || count === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let [value, unit] = [count, 0];
  while (value >= 1024 && unit < units.length - 1) [value, unit] = [value / 1024, unit + 1];
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

const GROUPED = new Intl.NumberFormat("en");

export function count(number) {
  return number === null || number === undefined ? "–" : GROUPED.format(number);
}

/** "1 event", "2 events". */
export function many(number, one, more = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : more}`;
}
