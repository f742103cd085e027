// The field for the next user turn. What is typed survives a reload.
import { h, iconButton, isTouch } from "./dom.js";
import { fit } from "./editor.js";

export class Composer {
  /** `send(text)` resolves to whether the text was taken; `stop()` stops the response. */
  constructor({ send, stop, label = "Message" }) {
    this.onSend = send;
    this.field = h("textarea", { rows: 1, placeholder: label, "aria-label": label, oninput: () => this.typed(), onkeydown: (event) => this.key(event), enterkeyhint: isTouch() ? "enter" : "send" });
    this.sendButton = iconButton("send", "Send", () => this.send());
    this.sendButton.classList.add("send");
    this.stopButton = iconButton("stop", "Stop", stop, { hidden: true });
    this.stopButton.classList.add("send");
    this.problem = h("div.composer-problem");
    this.element = h("div.composer", {}, this.problem, h("div.composer-box", {}, this.field, this.sendButton, this.stopButton));
    this.typed();
  }

  /** Use the draft of this name. */
  use(name) {
    this.name = `draft:${name}`;
    this.field.value = localStorage.getItem(this.name) ?? "";
    this.typed();
  }

  set text(text) {
    this.field.value = text;
    this.typed();
  }

  typed() {
    if (this.name) {
      if (this.field.value) localStorage.setItem(this.name, this.field.value);
      else localStorage.removeItem(this.name);
    }
    this.sendButton.disabled = !this.field.value.trim() || this.isSending;
    fit(this.field);
  }

  key(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || isTouch()) return;
    event.preventDefault();
    if (this.stopButton.hidden) this.send();
  }

  async send() {
    const text = this.field.value;
    if (!text.trim() || this.isSending) return;
    this.isSending = true;
    this.typed();
    this.problem.replaceChildren();
    const name = this.name;
    try {
      if (await this.onSend(text)) {
        localStorage.removeItem(name);
        if (this.field.value === text) this.field.value = "";
      }
    } finally {
      this.isSending = false;
      this.typed();
    }
  }

  /** Whether a response is being written: then the button stops it. */
  set isWriting(value) {
    const hadFocus = document.activeElement === this.stopButton || document.activeElement === this.sendButton;
    this.sendButton.hidden = value;
    this.stopButton.hidden = !value;
    if (hadFocus) this.field.focus();
  }

  focus() {
    if (!isTouch()) this.field.focus({ preventScroll: true });
  }
}
