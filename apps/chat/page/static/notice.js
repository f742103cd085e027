// A message in the place where something happened, with what can be done about it.
import { h, icon } from "./dom.js";

/** `notice("error", "The queue is full", "try again", [["Retry", run], …])`; the first button is the likeliest. */
export function notice(kind, title, text, buttons = [], details = []) {
  return h(`div.notice.${kind}`, { role: kind === "error" ? "alert" : "note" },
    icon(kind === "error" ? "warning" : "help"),
    h("div", {},
      h("p.notice-title", {}, title),
      text ? h("p.notice-text", {}, text) : null,
      details.length ? h("ul", {}, details.map((detail) => h("li", {}, detail))) : null,
      buttons.length ? h("div.notice-buttons", {}, buttons.map(([label, run]) => h("button", { type: "button", onclick: run }, label))) : null));
}

/** The notice of a failed request. */
export function failureNotice(form, buttons) {
  return notice("error", capital(form.what), sentence(form.fix ?? ""), buttons, form.details ?? []);
}

const capital = (text) => text.slice(0, 1).toUpperCase() + text.slice(1);
const sentence = (text) => capital(text) + (!text || /[.!?]$/.test(text) ? "" : ".");
