// A new event made of an old one: another name, body or header fields, to chosen targets.

import { el } from "/assets/dom.js";
import { get, post, Refused } from "/assets/api.js";
import { confirm, labelled } from "/assets/dialogs.js";

/** Fields as lines of text, without those that the page was not shown. */
function lines(headers) {
  return headers.filter(([, , how]) => how === undefined).map(([name, value]) => `${name}: ${value}`).join("\n");
}

function parseLines(text) {
  return text.split("\n").map((line) => line.trim()).filter((line) => line !== "").map((line) => {
    const colon = line.indexOf(":");
    if (colon < 1) throw new Refused(400, `"${line}" is no header field: write "name: value".`);
    return [line.slice(0, colon).trim(), line.slice(colon + 1).trim()];
  });
}

/** Asks what to change, and opens the new event. */
export async function askResend(event) {
  const { items } = await get("targets");
  const had = new Set(event.deliveries.map((it) => it.target));
  const name = el("input", { type: "text", value: event.event, maxlength: 256, required: true });
  const editable = event.body.encoding === "utf-8" && !event.body.truncated;
  const body = el("textarea", { rows: "12", class: "code", spellcheck: "false", value: editable ? event.body.data : "", disabled: !editable });
  const fields = el("textarea", { rows: "5", class: "code", spellcheck: "false", value: lines(event.headers) });
  // What a field holds is what was put into it, also where it changes line ends.
  const [begunBody, begunFields] = [body.value, fields.value];
  const boxes = items.filter((it) => it.configured).map((it) =>
    el("input", { type: "checkbox", name: it.target, checked: had.has(it.target) }));
  const content = el("div", { class: "wide" },
    labelled("Event name", name),
    labelled("Body", body, editable ? null : "It is no text, or too long to edit here: the new event has the same."),
    labelled("Header fields", fields, "Unchanged, they are taken over with those that are masked."),
    el("fieldset", {}, el("legend", {}, "Targets"), ...boxes.map((box) => el("label", { class: "check" }, box, box.name))),
    el("p", { class: "note" }, "The provider's own signature no longer fits a changed body."));
  if (!await confirm("Edit and resend", content, "Send as a new event")) return;
  const changed = { event: name.value, targets: boxes.filter((box) => box.checked).map((box) => box.name) };
  if (editable && body.value !== begunBody) changed.body = { encoding: "utf-8", data: body.value };
  if (fields.value !== begunFields) changed.headers = parseLines(fields.value);
  const made = await post(`events/${event.id}/resend`, changed);
  location.hash = `#/events/${made.id}`;
}
