// One message: its text, its meters, and what can be done with it.
import { messageActions } from "./actions.js";
import { copyText, showAnswer } from "./answer.js";
import { h, iconButton } from "./dom.js";
import { editor } from "./editor.js";
import { ENDINGS, count, modelOf, speed } from "./format.js";
import { failureNotice, notice } from "./notice.js";

export class MessageView {
  /** `place` is the view around it: `{ conversation, thread, view, act(name, message, …) }`. */
  constructor(message, place) {
    this.place = place;
    this.body = h(message.role === "user" ? "div.text" : "div.answer");
    this.reasoning = h("details.reasoning", { hidden: true }, h("summary", {}, "Reasoning"), h("div.text"));
    this.meters = h("div.meters");
    this.after = h("div.message-notices");
    this.tools = h("div.tools", { role: "group", "aria-label": "Actions" });
    this.element = h(`article.message.${message.role}`, { tabindex: "-1", data: { message: message.id } },
      h("h3.unseen", {}, message.role === "user" ? "You" : modelOf(message.facts)),
      message.role === "user" ? "" : this.reasoning, this.body, this.after, h("div.message-foot", {}, this.tools, this.meters));
    this.show(message);
  }

  /** Show a message as the server has it. */
  show(message) {
    const key = JSON.stringify([message.content, message.state, message.siblings, message.facts, this.place.isLast(message)]);
    if (key === this.key) return;
    const isGrown = this.key !== undefined && message.content === this.message.content;
    this.key = key;
    this.message = message;
    this.element.dataset.state = message.state;
    if (this.isEditing) return;
    if (message.role === "user") this.body.textContent = message.content;
    else if (!isGrown || message.state !== "writing") this.showText(message.html ?? "", message.facts.reasoning);
    this.showMeters(message.facts, message.state === "writing" ? null : "saved");
    this.showTools();
    this.showAfter();
  }

  /** Show the text of a response that is being written. */
  grow(progress) {
    if (this.isEditing) return;
    this.element.dataset.state = "writing";
    this.element.dataset.saved = progress.saved;
    this.showText(progress.html, progress.reasoning);
    this.showMeters(progress.facts, !progress.length ? null : progress.saved >= progress.length ? "saved" : "saving");
    if (progress.problem) this.after.replaceChildren(notice("error", "Not saved", progress.problem));
  }

  showText(html, reasoning) {
    const isWaiting = !html && !reasoning && this.message.state === "writing";
    this.body.classList.toggle("is-waiting", isWaiting);
    if (isWaiting) this.body.replaceChildren(h("span.dots", { "aria-label": "Reading the prompt" }, h("i"), h("i"), h("i")));
    else showAnswer(this.body, html);
    this.reasoning.hidden = !reasoning;
    if (reasoning) {
      this.reasoning.lastChild.textContent = reasoning;
      if (!html && this.message.state === "writing") this.reasoning.open = true;
    }
  }

  showMeters(facts, saved) {
    if (this.message.role === "user") return;
    const parts = [h("span", { title: facts.adapter ? `adapter on ${facts.model}` : "model" }, modelOf(facts))];
    if (facts.tokens_per_second) parts.push(h("span", { title: "speed after the first token" }, `${speed(facts.tokens_per_second)} tok/s`));
    if (facts.prompt_tokens !== undefined) {
      const used = facts.prompt_tokens + (facts.tokens ?? 0);
      parts.push(h("span.context", { title: "tokens of the context in use" },
        h("meter", { min: 0, max: facts.context, value: used, high: facts.context * 0.8, optimum: 0, "aria-label": "Context in use" }),
        `${count(used)} of ${count(facts.context)}`));
      parts.push(h("span", { title: "prompt tokens that the KV cache already held" }, `${count(facts.cached_tokens ?? 0)} cached`));
    }
    if (facts.seed !== undefined && facts.seed !== null) parts.push(h("span.seed", { title: "random seed" }, `seed ${facts.seed}`));
    if (facts.finish_reason) parts.push(h("span.reason", { title: "why the response ended" }, facts.finish_reason));
    if (facts.edited) parts.push(h("span", {}, "edited"));
    if (saved) parts.push(h(`span.saved.${saved}`, { title: saved === "saved" ? "this text survives a crash" : "the last words are not on disk yet" }, saved === "saved" ? "saved" : "saving"));
    this.meters.replaceChildren(...parts);
  }

  showTools() {
    const { message, place } = this;
    const isWriting = message.state === "writing";
    const act = (name) => () => place.act(name, message);
    const tools = [];
    if (place.canChange && message.siblings.length > 1) tools.push(this.siblings());
    if (!isWriting && message.content) tools.push(iconButton("copy", "Copy text", (event) => copyText(message.content, event.currentTarget)));
    if (place.canChange && !isWriting) {
      if (message.role === "assistant") {
        if (this.canContinue() && message.state === "complete" && !ENDINGS[message.facts.finish_reason]) tools.push(iconButton("forward", "Continue", act("continue")));
        if (message.parent) tools.push(iconButton("retry", "Regenerate", act("regenerate")));
      }
      tools.push(iconButton("edit", "Edit", () => this.edit()));
      tools.push(iconButton("branch", "Branch into a new chat", act("branch")));
    }
    for (const action of messageActions) {
      if (action.when(message, place)) tools.push(iconButton(action.icon, action.label, () => action.run(message, place)));
    }
    this.tools.replaceChildren(...tools);
  }

  canContinue() {
    const { state, facts, content } = this.message;
    return this.place.isLast(this.message) && content && (state === "stopped" || facts.edited || ["limit", "time", "context"].includes(facts.finish_reason));
  }

  siblings() {
    const { siblings, id } = this.message;
    const at = siblings.indexOf(id);
    const step = (to, name, label) => iconButton(name, label, () => this.place.act("choose", this.message, siblings[to]), { disabled: siblings[to] === undefined });
    return h("span.siblings", { role: "group", "aria-label": "Versions" },
      step(at - 1, "left", "Previous version"), h("span", {}, `${at + 1} of ${siblings.length}`), step(at + 1, "right", "Next version"));
  }

  showAfter() {
    const { message, place } = this;
    const { error, finish_reason: reason } = message.facts;
    this.after.replaceChildren();
    if (message.role === "user" || message.state === "writing" || !place.isLast(message)) return;
    const buttons = [];
    if (place.canChange) {
      if (error) buttons.push(["Retry", () => place.act("regenerate", message)]);
      if (reason === "context") buttons.push(...place.contextChoices(message));
      else if (this.canContinue()) buttons.push(["Continue", () => place.act("continue", message)]);
    }
    if (error) this.after.append(failureNotice(error, buttons));
    else if (message.state === "stopped") this.after.append(notice("info", reason === "cancelled" ? ENDINGS.cancelled : "The server ended before the response was complete.", "", buttons));
    else if (ENDINGS[reason]) this.after.append(notice("info", ENDINGS[reason], "", buttons));
  }

  /** Let the user change the text in place. */
  edit() {
    if (this.isEditing) return;
    this.isEditing = true;
    const { message } = this;
    const close = () => {
      this.isEditing = false;
      this.key = undefined;
      field.remove();
      this.body.hidden = false;
      this.element.classList.remove("is-editing");
      this.show(this.message);
      this.element.focus();
    };
    const field = editor(message, close, async (content) => {
      close();
      if (content !== message.content || message.role === "user") await this.place.act("edit", message, content);
    });
    this.body.hidden = true;
    this.element.classList.add("is-editing");
    this.body.after(field);
    field.querySelector("textarea").focus();
  }
}
