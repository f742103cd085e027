// A text field that grows with its text, and the editor of a message.
import { h, isTouch } from "./dom.js";

/** Make a text field as high as its text. */
export function fit(field) {
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight + field.offsetHeight - field.clientHeight}px`;
}

/** The editor in place of a message's text. */
export function editor(message, cancel, save) {
  const isUser = message.role === "user";
  const field = h("textarea", { rows: 1, "aria-label": isUser ? "Edit your message" : "Edit the response", value: message.content, oninput: () => fit(field), onkeydown: key });
  const hint = isUser ? "The old message and what followed stay as another version." : "The old text stays as another version. Continue writes on from your text.";
  function key(event) {
    if (event.isComposing) return;
    if (event.key === "Escape") { event.stopPropagation(); cancel(); }
    const sends = isUser ? event.key === "Enter" && !event.shiftKey && !isTouch() : event.key === "Enter" && (event.ctrlKey || event.metaKey);
    if (sends) { event.preventDefault(); done(); }
  }
  const done = () => { if (field.value.trim()) save(field.value); };
  requestAnimationFrame(() => fit(field));
  return h("div.editor", {}, field, h("p.hint", {}, hint), h("div.editor-buttons", {},
    h("button", { type: "button", onclick: cancel }, "Cancel"),
    h("button.primary", { type: "button", onclick: done }, isUser ? "Send" : "Save")));
}
