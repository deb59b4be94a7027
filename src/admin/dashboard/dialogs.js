// Questions: for the token, before something is changed, and texts to copy.

import { el, add, button, say } from "/assets/dom.js";

/** Opens a dialog and resolves with what closed it: `null` when it was left. */
function open(title, content, buttons, { stays = false } = {}) {
  return new Promise((resolve) => {
    const heading = el("h2", { id: "dialog-title" }, title);
    const form = el("form", {}, heading, content, el("div", { class: "buttons" }, ...buttons));
    const dialog = el("dialog", { "aria-labelledby": "dialog-title" }, form);
    let value = null;
    dialog.done = (given) => { value = given; dialog.close(); };
    dialog.addEventListener("close", () => { dialog.remove(); resolve(value); });
    if (stays) dialog.addEventListener("cancel", (event) => event.preventDefault());
    form.addEventListener("submit", (event) => event.preventDefault());
    document.body.append(dialog);
    dialog.showModal();
  });
}

function close(event, value) {
  event.target.closest("dialog").done(value);
}

function leave(label = "Cancel") {
  return el("button", { type: "button", class: "quiet", onclick: (event) => close(event, null) }, label);
}

/** Asks for the bearer token until one is given. */
export function askToken(wasWrong) {
  const field = el("input", { type: "password", id: "token", autocomplete: "off", autofocus: true, required: true });
  const enter = el("button", { type: "submit", class: "main", onclick: (event) => {
    if (/^[\x21-\x7e]+$/.test(field.value)) close(event, field.value);
  } }, "Enter");
  const content = el("div", {},
    wasWrong && el("p", { class: "bad" }, "This token was not accepted."),
    el("p", {}, "This everhook asks for the token of its configuration, [admin] token."),
    labelled("Token", field, "It is kept until this tab is closed, and nowhere else."));
  return open("Who is there?", content, [enter], { stays: true });
}

/** Whether to go on. `content` may hold fields, which the caller reads afterwards. */
export async function confirm(title, content, label, { danger = false } = {}) {
  const yes = el("button", { type: "submit", class: danger ? "danger" : "main", onclick: (event) => {
    if (event.target.form.checkValidity()) close(event, true);
    else event.target.form.reportValidity();
  } }, label);
  const box = content instanceof Node ? content : el("p", {}, content);
  return (await open(title, box, [leave(), yes])) === true;
}

/** Shows a text to copy. */
export function showText(title, text, ...notes) {
  const field = el("textarea", { readonly: true, rows: "10", spellcheck: "false", class: "code", "aria-label": title });
  field.value = text;
  const copied = button("Copy", () => copy(text, field), { class: "main" });
  return open(title, el("div", {}, field, ...notes.map((note) => el("p", { class: "note" }, note))), [leave("Close"), copied]);
}

/** Copies a text; where the browser does not let a page do that, the text is selected. */
export async function copy(text, field) {
  try {
    await navigator.clipboard.writeText(text);
    say("Copied.");
  } catch {
    field?.select();
    say(field ? "Press Ctrl+C to copy." : "This browser does not let the page copy.", !field);
  }
}

/** A box with a label. */
export function labelled(label, field, note) {
  return add(el("label", { class: "field" }), el("span", {}, label), field, note && el("small", {}, note));
}
