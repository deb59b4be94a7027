// Reading the configuration again, and what came of it.

import { el, button } from "/assets/dom.js";
import { post } from "/assets/api.js";
import { confirm, showText } from "/assets/dialogs.js";

function report({ changes, needs_restart: later, warnings }) {
  const lines = [
    ...changes.map(({ key, what }) => `${what}: ${key}`),
    ...later.map((key) => `takes effect at the next start: ${key}`),
    ...warnings.map((text) => `warning: ${text}`),
  ];
  return lines.length > 0 ? lines.join("\n") : "Nothing in it has changed.";
}

/** The button for it. */
export function reloadButton() {
  return button("Read the configuration again", async () => {
    if (!await confirm("Read the configuration again?", el("p", {}, "All of it takes effect, or nothing."), "Read it")) return;
    try {
      await showText("The configuration is in effect", report(await post("reload", {})));
    } catch (error) {
      await showText("The configuration stays as it was", error.message);
    }
  }, { class: "quiet" });
}
