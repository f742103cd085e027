// The chat view: a conversation, its messages, and the field for the next turn.
import { call } from "./api.js";
import { Composer } from "./composer.js";
import { h, iconButton, toast } from "./dom.js";
import { on, watch } from "./events.js";
import { plural } from "./format.js";
import { failureNotice, notice } from "./notice.js";
import { go } from "./router.js";
import { openSettings, refreshSettings, settingsButton } from "./settings.js";
import { changed, modelNamed, saveDraft, state, subscribe } from "./state.js";
import { Thread } from "./thread.js";
import { topbar } from "./topbar.js";
import { welcome } from "./welcome.js";

class Chat {
  canChange = true;

  constructor(main, rest, query) {
    this.view = this;
    this.thread = new Thread(this);
    this.composer = new Composer({ send: (text) => this.send(text), stop: () => this.stop() });
    this.bar = topbar(settingsButton(() => openSettings(this)));
    this.empty = h("div.empty");
    main.append(this.bar.element, this.empty, this.thread.element, h("div.dock", {}, this.composer.element));
    this.ends = [
      on("path", ({ conversation }) => { if (conversation === this.number) this.reload(); }),
      on("hello", () => { if (this.number) this.reload(); }),
      on("deleted", ({ conversation }) => { if (conversation === this.number) go("/chat"); }),
      subscribe(() => this.showHead()),
    ];
    this.update(rest, query);
  }

  close() {
    for (const end of this.ends) end();
    this.thread.close();
  }

  /** Show the conversation of another address. */
  update(rest, query) {
    const number = Number(rest[0]) || null;
    const found = Number(query.get("message")) || null;
    if (number !== this.number || !this.isOpen) {
      this.isOpen = true;
      this.number = number;
      this.conversation = null;
      this.failure = null;
      this.thread.show([]);
      this.thread.toEnd();
      this.composer.use(number ?? "new");
      watch(number ? [number] : []);
    }
    this.found = found;
    this.showHead();
    if (number) this.reload();
    else this.show([]);
    this.composer.focus();
    refreshSettings(this);
    return true;
  }

  /** Get the messages again; calls in the meantime lead to one more. */
  async reload() {
    if (!this.number) return;
    if (this.loading) { this.isStale = true; return this.loading; }
    this.loading = this.load(this.number);
    await this.loading;
    this.loading = null;
    if (this.isStale) { this.isStale = false; await this.reload(); }
  }

  async load(number) {
    try {
      const conversation = await call("GET", `/conversations/${number}`);
      if (number !== this.number) { this.isStale = true; return; }
      this.conversation = conversation;
      this.problem(null);
      this.show(conversation.messages);
      this.showHead();
      if (this.found) { this.thread.reveal(this.found); this.found = null; }
    } catch (failure) {
      if (number !== this.number) { this.isStale = true; return; }
      this.problem(failure, () => this.reload());
    }
  }

  show(messages) {
    if (this.failure && !messages.some((message) => message.id === this.failure.after)) this.failure = null;
    this.starts = messages.flatMap((message, at) => (message.role === "user" && messages[at - 1]?.role !== "user" ? [at] : []));
    this.thread.messages = messages;
    this.thread.show(messages);
    this.composer.isWriting = Boolean(this.thread.writing);
    this.showTail(messages);
    const isEmpty = !messages.length && !this.number;
    this.empty.hidden = !isEmpty;
    this.thread.element.hidden = isEmpty;
    if (isEmpty) this.showWelcome();
  }

  showWelcome() {
    if (this.welcomed === this.model) return;
    this.welcomed = this.model;
    this.empty.replaceChildren(welcome(this.model, (text) => { this.composer.text = text; this.composer.field.focus(); }));
  }

  /** What follows the last message: why there is no response, or how to get one. */
  showTail(messages) {
    const last = messages.at(-1);
    const parts = [];
    if (last?.role === "user" && !this.isStarting) {
      const retry = ["Retry", () => this.act("reply", last)];
      if (this.failure?.form.code === "context_length_exceeded") {
        parts.push(failureNotice({ ...this.failure.form, fix: "Your message is stored. Nothing is left out of the prompt unless you choose so" }, this.contextChoices(last)));
      } else if (this.failure) parts.push(failureNotice(this.failure.form, [retry]));
      else parts.push(notice("info", "No response yet.", "", [["Generate response", retry[1]]]));
    } else if (last?.role === "user") parts.push(h("span.dots", { "aria-label": "Waiting" }, h("i"), h("i"), h("i")));
    this.thread.tail.replaceChildren(...parts);
    this.thread.follow();
  }

  showHead() {
    const known = state.conversations.get(this.number);
    if (known && this.conversation) Object.assign(this.conversation, known);
    this.bar.show(this.number ? known?.title ?? "" : "New chat", [this.model?.name, this.read().system.trim() && "system prompt"].filter(Boolean).join(" · "));
    if (!this.empty.hidden) this.showWelcome();
    document.title = known?.title ? `${known.title} · mlx-suite` : "mlx-suite";
    if (this.conversation) this.showDropped();
    refreshSettings(this);
  }

  showDropped() {
    const { dropped } = this.conversation;
    const kept = this.starts?.[Math.min(dropped, this.starts.length - 1)] ?? 0;
    if (kept === this.kept) return;
    this.kept = kept;
    this.thread.show(this.thread.messages);
    this.divider?.remove();
    this.divider = null;
    if (!kept) return;
    this.divider = h("div.divider", {}, h("span", {}, `${plural(dropped, "exchange")} above ${dropped === 1 ? "is" : "are"} not in the prompt`),
      h("button.quiet", { type: "button", onclick: () => this.write({ dropped: 0 }) }, "Put back"));
    this.thread.views.get(this.thread.messages[kept].id).element.prepend(this.divider);
  }

  isDropped(at) { return at < (this.kept ?? 0); }

  owns(message) { return message.conversation === this.number; }

  isLast(message) { return this.thread.messages.at(-1)?.id === message.id; }

  get isWriting() { return Boolean(this.thread.writing); }

  get model() { return modelNamed(this.read().model); }

  // ---- settings

  read() {
    const { model, system, settings } = this.conversation ?? state.draft;
    return { model, system, settings };
  }

  async write(changes) {
    if (!this.number) { saveDraft(changes); return; }
    try {
      Object.assign(this.conversation, await call("PATCH", `/conversations/${this.number}`, changes));
      this.showHead();
    } catch (failure) { this.problem(failure); }
  }

  // ---- what the user does

  async send(text) {
    try {
      let number = this.number;
      if (!number) {
        const created = await call("POST", "/conversations", { ...state.draft, title: text.slice(0, 1000) });
        state.conversations.set(created.id, created);
        localStorage.removeItem("draft:new");
        this.composer.name = `draft:${created.id}`;
        this.number = number = created.id;
        this.conversation = { ...created, messages: [] };
        watch([number]);
        history.pushState(null, "", `#/chat/${number}`);
        changed();
      }
      this.isStarting = true;
      this.thread.toEnd();
      const result = await call("POST", `/conversations/${number}/messages`, { content: text, parent: this.thread.messages.at(-1)?.id ?? null });
      this.started(result);
      return true;
    } catch (failure) {
      this.problem(failure);
      return false;
    } finally {
      this.isStarting = false;
      if (this.number) this.reload();
    }
  }

  started({ message, error }) {
    this.failure = error ? { after: message.id, form: error } : null;
  }

  async stop() {
    if (!this.number || !this.thread.writing) return;
    await this.act("stop", this.thread.writing);
  }

  /** Do something with a message: reply, regenerate, continue, stop, edit, choose, branch. */
  async act(name, message, value) {
    try {
      this.isStarting = ["reply", "regenerate", "continue", "edit"].includes(name);
      if (this.isStarting) { this.failure = null; this.thread.toEnd(); }
      if (name === "branch") {
        const made = await call("POST", `/messages/${message.id}/branch`);
        go(`/chat/${made.id}`);
        toast("This is a new chat with a copy of the messages so far");
        return;
      }
      const number = name === "choose" ? value : message.id;
      const result = await call("POST", `/messages/${number}/${name}`, name === "edit" ? { content: value } : undefined);
      if (name === "edit") this.started(result);
    } catch (failure) {
      if (name === "reply") this.failure = { after: message.id, form: failure.form };
      else if (failure.code === "context_length_exceeded") this.problem(failure, null, this.contextChoices(message));
      else this.problem(failure, () => this.act(name, message, value));
    } finally {
      this.isStarting = false;
    }
    await this.reload();
  }

  /** What to do when the context is full. */
  contextChoices(message) {
    const user = message.role === "user" ? message : this.thread.messages.find((each) => each.id === message.parent);
    const choices = [];
    if (user) choices.push(["Shorten the message", () => this.thread.views.get(user.id).edit()]);
    if (this.starts.length - 1 > (this.conversation.dropped ?? 0)) {
      choices.push(["Drop the oldest exchange", async () => {
        await this.write({ dropped: this.conversation.dropped + 1 });
        await this.act(message.role === "user" ? "reply" : "continue", message);
      }]);
    }
    choices.push(["New chat", () => {
      if (user) localStorage.setItem("draft:new", user.content);
      saveDraft(this.read());
      go("/chat");
    }]);
    return choices;
  }

  finished() {
    this.composer.isWriting = Boolean(this.thread.writing);
    this.showTail(this.thread.messages);
  }

  problem(failure, retry, choices) {
    const buttons = choices ?? (retry ? [["Retry", () => { this.problem(null); retry(); }]] : []);
    const close = iconButton("close", "Close", () => this.problem(null));
    this.composer.problem.replaceChildren(...(failure ? [failureNotice(failure.form ?? { what: String(failure) }, buttons), close] : []));
  }
}

/** Open the chat view. */
export const openChat = (main, rest, query) => new Chat(main, rest, query);
