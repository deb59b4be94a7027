// The command that sends an event again by hand.

import { get } from "/assets/api.js";
import { showText } from "/assets/dialogs.js";

/** Longest body that is written into the command. */
const MAX_INLINE = 16 * 1024;
/** Fields that curl makes itself. */
const OWN = new Set(["host", "content-length", "connection", "transfer-encoding", "accept-encoding", "expect"]);

/** A text as one word of a shell. Where it holds what a terminal would obey, every such character is written by number. */
export function quoted(text) {
  if (/^[\x20-\x7e\n\t]*$/.test(text)) return `'${text.replaceAll("'", "'\\''")}'`;
  const one = (c) => {
    const code = c.codePointAt(0);
    if (c === "'" || c === "\\") return `\\${c}`;
    if (code >= 0x20 && code < 0x7f) return c;
    if (c === "\n") return "\\n";
    return [...new TextEncoder().encode(c)].map((b) => `\\x${b.toString(16).padStart(2, "0")}`).join("");
  };
  // After \xNN a hexadecimal digit would be taken as part of it; $'..' takes at most two, so it is not.
  return `$'${[...text].map(one).join("")}'`;
}

/** The command, for bash and its like. `origin`: where this page is. */
export function curl(event, url, origin) {
  const fields = event.headers.filter(([name, , how]) => how === undefined && !OWN.has(name));
  const parts = fields.map(([name, value]) => `-H ${quoted(`${name}: ${value}`)}`);
  const { encoding, data, size, truncated } = event.body;
  const whole = ["-X POST", ...parts, "--data-binary"];
  if (truncated || size > MAX_INLINE || data.includes("\u0000")) {
    return `curl -sS ${quoted(`${origin}/api/v1/events/${event.id}/body`)} |\n  curl ${whole.join(" \\\n  ")} @- \\\n  ${quoted(url)}`;
  }
  if (encoding === "base64") return `echo ${quoted(data)} | base64 -d |\n  curl ${whole.join(" \\\n  ")} @- \\\n  ${quoted(url)}`;
  // A body that begins with @ would be taken as the name of a file.
  const body = data.startsWith("@") ? null : quoted(data);
  if (body === null) return `printf %s ${quoted(data)} |\n  curl ${whole.join(" \\\n  ")} @- \\\n  ${quoted(url)}`;
  return `curl ${whole.join(" \\\n  ")} ${body} \\\n  ${quoted(url)}`;
}

/** Shows it. */
export async function askCurl(event) {
  const { items } = await get("sources");
  const url = items.find((it) => it.source === event.source)?.url ?? "TARGET_URL";
  const hidden = event.headers.some(([, , how]) => how === "masked");
  await showText("Copy as curl", curl(event, url, location.origin),
    "It sends the event to its source again. Put a target's URL in its place to try that.",
    ...(hidden ? ["Fields with credentials and signatures are left out, so the source may refuse it."] : []));
}
