// Compare: two columns answer the same prompt, each with a model and settings of its own.
import { call } from "./api.js";
import { Composer } from "./composer.js";
import { h, icon, toast } from "./dom.js";
import { on, watch } from "./events.js";
import { failureNotice } from "./notice.js";
import { go } from "./router.js";
import { openSettings, refreshSettings } from "./settings.js";
import { modelNamed, state, subscribe } from "./state.js";
import { Thread } from "./thread.js";
import { topbar } from "./topbar.js";

const NAMES = ["A", "B"];

class Column {
  canChange = false;
  isPart = true;

  constructor(compare, at) {
    this.compare = compare;
    this.at = at;
    this.view = compare;
    this.settingsTitle = `Column ${NAMES[at]}`;
    this.thread = new Thread(this);
    this.model = h("button.column-model", { type: "button", title: "Model and settings of this column", onclick: () => openSettings(this) });
    this.chat = h("button.quiet", { type: "button", hidden: true, onclick: () => this.toChat() }, icon("branch"), "Open as a chat");
    this.problem = h("div.column-problem");
    this.hint = h("p.column-hint", {}, at === 0 ? "Both columns get the same prompt. Choose the model, the system prompt and the sampling of each at its head." : "The responses stream side by side. Either column can become a chat of its own.");
    this.element = h("section.compare-column", { "aria-label": `Column ${NAMES[at]}` },
      h("header.column-head", {}, h("span.column-name", {}, NAMES[at]), this.model, this.chat), this.problem, this.hint, this.thread.element);
    this.setup = at === 0 ? { ...state.draft } : other(state.draft);
  }

  show(messages) {
    this.messages = messages;
    this.thread.messages = messages;
    this.thread.show(messages);
    this.hint.hidden = messages.length > 0;
    this.showHead();
  }

  showHead() {
    const changes = Object.entries(this.setup.settings).map(([name, value]) => `${name.replace("_", "-")} ${value}`);
    if (this.setup.system) changes.push("system prompt");
    this.model.replaceChildren(h("strong", {}, this.read().model || modelNamed("")?.name), h("span", {}, changes.join(" · ") || "default settings"), icon("settings"));
    const last = this.thread.messages.at(-1);
    this.chat.hidden = !last || last.state === "writing";
  }

  owns(message) { return message.conversation === this.compare.number && message.facts.column === this.at; }

  isLast(message) { return this.thread.messages.at(-1)?.id === message.id; }

  read() { return this.setup; }

  write(changes) {
    Object.assign(this.setup, changes);
    this.showHead();
  }

  finished() {
    this.showHead();
    this.compare.showWriting();
  }

  /** Make this column a chat of its own, with its model and settings. */
  async toChat() {
    try {
      const made = await call("POST", `/messages/${this.thread.messages.at(-1).id}/branch`);
      await call("PATCH", `/conversations/${made.id}`, this.setup);
      go(`/chat/${made.id}`);
      toast("This column is now a chat of its own");
    } catch (failure) { this.problem.replaceChildren(failureNotice(failure.form, [])); }
  }

  act() {}

  contextChoices() { return []; }
}

// The second column starts with another model if there is one, else with greedy sampling.
function other(setup) {
  const first = modelNamed(setup.model);
  const second = state.models.find((model) => model.base === first?.base && model.name !== first.name) ?? state.models.find((model) => model.name !== first?.name);
  return second ? { ...setup, model: second.name } : { ...setup, settings: { ...setup.settings, temperature: 0 } };
}

class Compare {
  constructor(main, rest) {
    this.columns = [new Column(this, 0), new Column(this, 1)];
    this.composer = new Composer({ send: (text) => this.send(text), stop: () => this.stop(), label: "Message to both columns" });
    this.bar = topbar();
    main.append(this.bar.element, h("div.compare", {}, this.columns.map((column) => column.element)), h("div.dock", {}, this.composer.element));
    this.ends = [
      on("path", ({ conversation }) => { if (conversation === this.number) this.reload(); }),
      on("hello", () => { if (this.number) this.reload(); }),
      on("deleted", ({ conversation }) => { if (conversation === this.number) go("/compare"); }),
      subscribe(() => this.showHead()),
    ];
    this.update(rest);
  }

  close() {
    for (const end of this.ends) end();
    for (const column of this.columns) column.thread.close();
  }

  update(rest) {
    const number = Number(rest[0]) || null;
    if (number !== this.number) {
      this.number = number;
      this.composer.use(`compare-${number ?? "new"}`);
      for (const column of this.columns) column.show([]);
      this.isKnown = false;
    }
    watch(number ? [number] : []);
    if (number) this.reload();
    this.showHead();
    this.composer.focus();
    return true;
  }

  showHead() {
    const known = state.conversations.get(this.number);
    this.bar.show(known?.title ?? "Compare", known ? "" : "One prompt, two responses side by side");
    document.title = `${known?.title || "Compare"} · mlx-suite`;
    for (const column of this.columns) column.showHead();
    refreshSettings(this.columns[0]);
  }

  get isWriting() { return this.columns.some((column) => column.thread.writing); }

  showWriting() { this.composer.isWriting = this.isWriting; }

  read() { return this.columns[0].read(); }

  write(changes) { this.columns[0].write(changes); }

  async reload() {
    const { number } = this;
    const own = this.latest = (this.latest ?? 0) + 1; // answers may come in another order
    try {
      const found = await call("GET", `/compare/${number}`);
      if (own === this.latest && number === this.number) this.show(found);
    } catch (failure) { this.composer.problem.replaceChildren(failureNotice(failure.form ?? { what: String(failure) }, [["Retry", () => this.reload()]])); }
  }

  show(found) {
    if (!this.isKnown && found.compare) {
      found.compare.forEach((setup, at) => { this.columns[at].setup = setup; });
      this.isKnown = true;
    }
    found.columns.forEach((messages, at) => this.columns[at].show(messages));
    this.showWriting();
  }

  async send(content) {
    try {
      for (const column of this.columns) { column.problem.replaceChildren(); column.thread.toEnd(); }
      const columns = this.columns.map((column) => column.setup);
      const found = await call("POST", "/compare", { content, columns, conversation: this.number });
      if (!this.number) {
        localStorage.removeItem("draft:compare-new");
        this.number = found.id;
        this.isKnown = true;
        this.composer.name = `draft:compare-${found.id}`;
        history.pushState(null, "", `#/compare/${found.id}`);
        watch([found.id]);
      }
      this.latest = (this.latest ?? 0) + 1;
      this.show(found);
      found.errors.forEach((form, at) => { if (form) this.columns[at].problem.replaceChildren(failureNotice(form, [["Retry", () => this.retry(at)]])); });
      return true;
    } catch (failure) {
      this.composer.problem.replaceChildren(failureNotice(failure.form ?? { what: String(failure) }, []));
      return false;
    }
  }

  /** Begin the response of one column, which could not begin before. */
  async retry(at) {
    const column = this.columns[at];
    column.problem.replaceChildren();
    try {
      this.show(await call("POST", `/compare/${this.number}/columns/${at}/reply`, column.setup));
    } catch (failure) {
      column.problem.replaceChildren(failureNotice(failure.form, [["Retry", () => this.retry(at)]]));
    }
  }

  async stop() {
    await call("POST", `/conversations/${this.number}/stop`).catch((failure) => toast(failure.message));
  }
}

/** Open the Compare view. */
export const openCompare = (main, rest) => new Compare(main, rest);
