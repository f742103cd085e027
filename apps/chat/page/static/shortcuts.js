// The sheet of keyboard shortcuts.
import { show } from "./dialog.js";
import { h } from "./dom.js";

const control = /Mac|iPhone|iPad/.test(navigator.platform) ? "⌘" : "Ctrl";
const SHORTCUTS = [
  [["Enter"], "Send"],
  [["Shift", "Enter"], "New line"],
  [["Esc"], "Stop the response, or close what is open"],
  [[control, "K"], "Search"],
  [[control, "Shift", "O"], "New chat"],
  [[control, "Shift", ","], "Settings"],
  [["?"], "This sheet"],
];

/** Show the sheet. */
export function openShortcuts() {
  if (document.querySelector("dialog[open]")) return;
  const dialog = h("dialog.dialog", { "aria-labelledby": "shortcuts-title" },
    h("h2", { id: "shortcuts-title" }, "Keyboard"),
    h("dl.shortcuts", {}, SHORTCUTS.map(([keys, what]) => h("div", {}, h("dt", {}, keys.map((key) => h("kbd", {}, key))), h("dd", {}, what)))),
    h("div.dialog-buttons", {}, h("button.primary", { type: "button", autofocus: true, onclick: () => dialog.close() }, "Close")));
  show(dialog);
}
