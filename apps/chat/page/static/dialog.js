// Dialogs that ask one thing.
import { h } from "./dom.js";

/** Ask before something that cannot be undone; resolves to whether it was confirmed. */
export function confirm(title, text, label) {
  return new Promise((resolve) => {
    const dialog = h("dialog.dialog", { "aria-labelledby": "confirm-title", "aria-describedby": "confirm-text" },
      h("h2", { id: "confirm-title" }, title),
      h("p", { id: "confirm-text" }, text),
      h("div.dialog-buttons", {},
        h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
        h("button.danger", { type: "button", onclick: () => dialog.close("yes") }, label)));
    show(dialog).then((value) => resolve(value === "yes"));
  });
}

/** Show a dialog until it is closed; resolves to its return value. The browser gives the focus back. */
export function show(dialog) {
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => { dialog.remove(); resolve(dialog.returnValue); });
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    document.body.append(dialog);
    dialog.showModal();
  });
}
