// Where the time of an attempt went, as a drawing and in words.

import { el, svg, table, row } from "/assets/dom.js";
import { millis } from "/assets/format.js";

const WIDTH = 400;
const STEPS = [["Name lookup", "dns_ms", "a"], ["Connect", "connect_ms", "b"], ["TLS", "tls_ms", "c"], ["Waiting for the answer", "first_byte_ms", "d"]];
const COLUMNS = [["Step", ""], ["Took", "number"]];

/** The steps of an attempt; what is left over is sending, reading, and waiting for a turn. */
export function steps(attempt) {
  const { timing, duration_ms: whole } = attempt;
  const known = STEPS.filter(([, name]) => timing[name] !== null).map(([label, name, kind]) => [label, timing[name], kind]);
  const rest = whole - known.reduce((sum, [, took]) => sum + took, 0);
  const all = rest > 0 ? [...known, ["The rest", rest, "e"]] : known;
  const total = all.reduce((sum, [, took]) => sum + took, 0) || 1;
  const bar = svg("svg", { class: "steps", viewBox: `0 0 ${WIDTH} 10`, preserveAspectRatio: "none", "aria-hidden": "true" });
  let x = 0;
  for (const [, took, kind] of all) {
    const width = (took / total) * WIDTH;
    bar.append(svg("rect", { x, y: 0, width, height: 10, class: `step-${kind}` }));
    x += width;
  }
  const key = (kind) => svg("svg", { class: "key", viewBox: "0 0 10 10", "aria-hidden": "true" }, svg("rect", { width: 10, height: 10, class: `step-${kind}` }));
  const rows = all.map(([label, took, kind]) => row(COLUMNS, [[key(kind), " ", label], millis(took)]));
  return el("div", { class: "timing" }, bar, table("Where the time went", COLUMNS, rows).whole);
}
