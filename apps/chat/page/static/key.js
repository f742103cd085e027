// The API key: asked for when the server wants one, kept for this tab only.
import { h } from "./dom.js";

let asking = null;

/** Ask for the key once, however many requests wait for it. Resolves to whether there is a new one. */
export function askForKey(wasWrong, tried) {
  const known = sessionStorage.getItem("api-key");
  if (known && known !== tried) return Promise.resolve(true);
  asking ??= ask(wasWrong).finally(() => { asking = null; });
  return asking;
}

function ask(wasWrong) {
  return new Promise((resolve) => {
    const field = h("input", { type: "password", id: "api-key", autocomplete: "off", required: true, "aria-describedby": "api-key-hint" });
    const dialog = h("dialog.dialog", { "aria-labelledby": "api-key-title" },
      h("form", { method: "dialog", onsubmit: (event) => { event.preventDefault(); done(field.value.trim()); } },
        h("h2", { id: "api-key-title" }, "API key"),
        h("p", { id: "api-key-hint" }, wasWrong ? "The server refused this key." : "This server was started with a key. It is kept in this tab only."),
        h("label", { for: "api-key" }, "Key"), field,
        h("div.dialog-buttons", {},
          h("button", { type: "button", onclick: () => done("") }, "Cancel"),
          h("button.primary", { type: "submit" }, "Use key"))));
    const done = (key) => {
      if (key) sessionStorage.setItem("api-key", key);
      dialog.close();
      dialog.remove();
      resolve(Boolean(key));
    };
    dialog.addEventListener("cancel", (event) => { event.preventDefault(); done(""); });
    document.body.append(dialog);
    dialog.showModal();
  });
}
