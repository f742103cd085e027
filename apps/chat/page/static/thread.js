// The messages of one path, and the response that grows at its end.
import { announce, h, iconButton } from "./dom.js";
import { newest, on, streaming } from "./events.js";
import { MessageView } from "./message.js";

const NEAR = 48;

export class Thread {
  /** `place` gives the messages what they need; see `MessageView`. */
  constructor(place) {
    this.place = place;
    this.views = new Map();
    this.list = h("div.thread");
    this.tail = h("div.tail");
    this.scroller = h("div.scroller", { tabindex: "0", role: "region", "aria-label": "Messages", onscroll: () => this.scrolled() }, h("div.column", {}, this.list, this.tail));
    this.jump = iconButton("down", "Jump to the latest text", () => this.toEnd(), { hidden: true });
    this.jump.classList.add("jump");
    this.element = h("div.thread-frame", {}, this.scroller, this.jump);
    this.isAtEnd = true;
    this.messages = [];
    this.ends = [on("text", (progress) => this.grow(progress)), on("finished", (message) => this.finish(message))];
    this.sizes = new ResizeObserver(() => this.follow());
    this.sizes.observe(this.list);
    this.sizes.observe(this.scroller);
  }

  close() {
    for (const end of this.ends) end();
    this.sizes.disconnect();
  }

  /** The response that is being written; undefined if none is. */
  get writing() {
    return this.messages.find((message) => message.state === "writing");
  }

  /** Show these messages; those that are shown already stay where they are. */
  show(list) {
    const messages = this.messages = list.map(newest);
    const wanted = new Set(messages.map((message) => message.id));
    for (const [id, view] of this.views) {
      if (!wanted.has(id)) { view.element.remove(); this.views.delete(id); }
    }
    messages.forEach((message, at) => {
      let view = this.views.get(message.id);
      if (view) view.show(message);
      else this.views.set(message.id, view = new MessageView(message, this.place));
      if (this.list.children[at] !== view.element) this.list.insertBefore(view.element, this.list.children[at] ?? null);
      const progress = message.state === "writing" && streaming(message.id);
      if (progress) view.grow(progress);
      view.element.classList.toggle("is-dropped", this.place.isDropped?.(at) ?? false);
      view.element.classList.toggle("is-first-kept", this.place.isFirstKept?.(at) ?? false);
    });
    this.follow();
  }

  grow(progress) {
    const view = this.views.get(progress.message);
    const message = this.messages.find((each) => each.id === progress.message);
    if (!view || message?.state !== "writing") return;
    view.grow(progress);
    this.follow();
  }

  finish(message) {
    if (!this.place.owns(message)) return;
    announce(`Response finished. ${message.content}`);
    const at = this.messages.findIndex((each) => each.id === message.id);
    if (at < 0) return; // it ended before its path was here
    this.messages[at] = message;
    this.views.get(message.id).show(message);
    this.follow();
    this.place.finished();
  }

  scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    this.isAtEnd = scrollHeight - scrollTop - clientHeight < NEAR;
    this.jump.hidden = this.isAtEnd;
  }

  /** Stay at the end, if the reader is there. */
  follow() {
    if (this.isAtEnd) this.scroller.scrollTop = this.scroller.scrollHeight;
    else this.jump.hidden = false;
  }

  toEnd() {
    this.isAtEnd = true;
    this.jump.hidden = true;
    this.follow();
  }

  /** Show one message, and point it out. */
  reveal(number) {
    const view = this.views.get(number);
    if (!view) return;
    this.isAtEnd = false;
    view.element.scrollIntoView({ block: "center" });
    view.element.classList.add("is-found");
    view.element.focus({ preventScroll: true });
    setTimeout(() => view.element.classList.remove("is-found"), 2500);
  }
}
