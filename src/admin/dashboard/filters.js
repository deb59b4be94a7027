// The fields that narrow a list, and views that are kept. The address holds the filters, so a view is a link.

import { el, add, button } from "/assets/dom.js";
import { get } from "/assets/api.js";
import { confirm, labelled } from "/assets/dialogs.js";
import { visible, short } from "/assets/format.js";

const VIEWS = "everhook-views";
const MAX_VIEWS = 30;

/** Offers the names of a list. Without them the field takes any text all the same. */
function offer(field, list) {
  const names = el("datalist", { id: `known-${list}` });
  field.setAttribute("list", names.id);
  get(list).then(({ items }) => add(names, ...items.map((it) => el("option", { value: it[field.name] }))), () => {});
  return [field, names];
}

function input(spec, value) {
  const attributes = { name: spec.name, placeholder: spec.example ?? "", "aria-label": spec.label, maxlength: 1024, title: spec.title };
  if (spec.choices) {
    const choice = ([word, text]) => el("option", { value: word }, text);
    const field = el("select", { name: spec.name }, el("option", { value: "" }, "any"), ...spec.choices.map(choice));
    // What a link asks for is shown also when the list does not offer it.
    if (value && !spec.choices.some(([word]) => word === value)) field.append(el("option", { value }, value));
    field.value = value;
    return field;
  }
  const field = el("input", { type: spec.search ? "search" : "text", autocomplete: "off", spellcheck: "false", value, ...attributes });
  return spec.known ? offer(field, spec.known) : field;
}

/** Fields whose text is one value also when it has a comma. */
const WHOLE = new Set(["q", "header", "pointer"]);

/** Values of the fields as the query of an address. */
function read(form) {
  const words = new URLSearchParams();
  for (const [name, value] of new FormData(form)) {
    const parts = WHOLE.has(name) ? [String(value)] : String(value).split(",");
    for (const one of parts.map((part) => part.trim())) if (one) words.append(name, one);
  }
  return words.toString();
}

/** The fields of a page. `specs`: name, label, and choices, example, search or the list of `known` names; those marked `more` are folded away. */
export function filters(page, query, specs) {
  const value = (name) => query.getAll(name).join(", ");
  const field = (spec) => labelled(spec.label, input(spec, value(spec.name)));
  const form = el("form", { class: "filters", role: "search", "aria-label": "Filters" });
  const go = () => {
    const words = read(form);
    location.hash = `#/${page}${words ? `?${words}` : ""}`;
  };
  form.addEventListener("submit", (event) => { event.preventDefault(); go(); });
  form.addEventListener("change", (event) => { if (event.target.tagName === "SELECT") go(); });
  const more = specs.filter((spec) => spec.more);
  const used = more.some((spec) => query.has(spec.name));
  add(form,
    ...specs.filter((spec) => !spec.more).map(field),
    more.length > 0 && el("details", { open: used }, el("summary", {}, "More filters"), el("div", { class: "filters" }, ...more.map(field))),
    el("div", { class: "buttons" },
      el("button", { type: "submit", class: "main" }, "Filter"),
      query.size > 0 && el("a", { href: `#/${page}`, class: "button quiet" }, "Clear")));
  return form;
}

function kept() {
  try {
    const views = JSON.parse(localStorage.getItem(VIEWS) ?? "[]");
    return Array.isArray(views) ? views.filter((view) => typeof view.name === "string" && /^#\//.test(view.hash)) : [];
  } catch {
    return [];
  }
}

function keep(views) {
  localStorage.setItem(VIEWS, JSON.stringify(views.slice(-MAX_VIEWS)));
}

/** Links to the views that were kept in this browser, and what keeps the one that is shown. */
export function views(page) {
  const place = el("div", { class: "views" });
  const draw = () => {
    const mine = kept().filter((view) => view.hash.split("?")[0] === `#/${page}`);
    const item = (view) => el("span", { class: "view" },
      el("a", { href: view.hash }, view.name),
      el("button", { type: "button", class: "quiet", "aria-label": `Forget the view ${visible(view.name)}`, onclick: () => {
        keep(kept().filter((other) => other.name !== view.name));
        draw();
      } }, "×"));
    const save = button("Save this view", async () => {
      const name = el("input", { type: "text", maxlength: 60, required: true, autofocus: true });
      const content = labelled("Name of the view", name, "It is kept in this browser.");
      if (!await confirm("Save this view", content, "Save")) return;
      const view = { name: short(name.value.trim(), 60), hash: location.hash };
      keep([...kept().filter((other) => other.name !== view.name), view]);
      draw();
    }, { class: "quiet" });
    place.replaceChildren(...mine.map(item), ...(location.hash.includes("?") ? [save] : []));
  };
  draw();
  return place;
}
