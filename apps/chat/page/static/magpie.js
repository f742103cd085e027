// The Magpie view: rows of a session appear and fill while the model writes them; a person keeps or rejects them.
import { call, request } from "./api.js";
import { confirm } from "./dialog.js";
import { announce, h, icon, iconButton, toast } from "./dom.js";
import { plural } from "./format.js";
import { MagpieFeed } from "./magpie_feed.js";
import { Filters } from "./magpie_filters.js";
import { Funnel } from "./magpie_funnel.js";
import { RowCard } from "./magpie_row.js";
import { INTRODUCTION, startForm } from "./magpie_start.js";
import { openMenu } from "./menu.js";
import { failureNotice, notice } from "./notice.js";
import { go } from "./router.js";
import { closeSettings } from "./settings.js";
import { topbar } from "./topbar.js";

const NEAR = 60;
const KEYS = [["j", "next"], ["k", "previous"], ["a", "keep"], ["r", "reject"], ["u", "undo"], ["e", "export"]];

class MagpieView {
  constructor(main, rest) {
    this.main = main;
    this.onKey = (event) => this.key(event);
    document.addEventListener("keydown", this.onKey);
    closeSettings();
    this.open(rest[0]);
  }

  update(rest) {
    this.open(rest[0]);
    return true;
  }

  close() {
    this.feed?.close();
    this.isClosed = true;
    document.removeEventListener("keydown", this.onKey);
  }

  /** Show a session; the newest one if none is named, the form for a new one if there is none. */
  async open(name) {
    this.feed?.close();
    this.feed = this.name = null;
    const own = this.opening = {};
    let known;
    try {
      known = await call("GET", "/magpie");
    } catch (failure) {
      this.main.replaceChildren(topbar().element, h("div.empty", {}, failureNotice(failure.form, [["Try again", () => this.open(name)]])));
      return;
    }
    if (this.isClosed || own !== this.opening) return;
    this.known = known;
    this.name = name === "new" ? null : (name ?? known.sessions[0] ?? null);
    document.title = "Magpie · mlx-suite";
    if (this.name === null) this.showStart();
    else this.build();
  }

  showStart() {
    const back = this.known.sessions.length ? [h("button", { type: "button", onclick: () => go("/magpie") }, "Last session")] : [];
    const bar = topbar();
    bar.show("Magpie", "");
    this.main.replaceChildren(bar.element, h("div.empty", {}, h("div.welcome.magpie-start", {},
      h("h2", {}, "Watch a model write its own dataset"),
      h("p", {}, INTRODUCTION),
      startForm(this.known.categories, (session) => go(`/magpie/${session.name}`), back))));
  }

  build() {
    this.rows = new Map();
    this.cards = new Map();
    this.session = this.selected = this.controlsKey = this.problem = null;
    this.height = 0;
    this.controls = h("div.magpie-controls");
    this.bar = topbar(this.controls);
    this.notices = h("div.magpie-notices");
    this.funnel = new Funnel((reason) => this.filters.choose("all", this.filters.reason === reason ? null : reason));
    this.filters = new Filters(() => this.refresh());
    this.list = h("div.magpie-rows", { role: "list", "aria-label": "Rows" });
    this.nothing = h("p.hint", { hidden: true }, "No row matches this filter.");
    this.scroller = h("div.scroller", { tabindex: "0", role: "region", "aria-label": "Rows" }, h("div.magpie", {},
      this.notices, this.funnel.element, this.filters.element, this.list, this.nothing));
    this.main.replaceChildren(this.bar.element, this.scroller, h("p.magpie-keys", { "aria-label": "Keys" }, KEYS.map(([key, word]) => h("span", {}, h("kbd", {}, key), word))));
    this.feed = new MagpieFeed(this.name, (event, data) => this.receive(event, data));
  }

  receive(event, data) {
    if (event === "snapshot") {
      this.session = data.session;
      const present = new Set(data.rows.map((row) => row.index));
      for (const [index, card] of this.cards) {
        if (!present.has(index)) { card.element.remove(); this.cards.delete(index); this.rows.delete(index); }
      }
      data.rows.forEach((row) => this.put(row));
      this.refresh();
    } else if (event === "row") {
      this.put(data);
      this.refresh();
    } else if (event === "text") {
      this.rows.get(data.index)[data.part] += data.text;
      this.cards.get(data.index)?.grow(data.part, data.text);
      this.follow();
    } else if (event === "session") {
      const wasRunning = this.session?.running;
      this.session = data;
      if (wasRunning && !data.running) announce(`Finished. ${plural(this.kept().length, "row")} kept.`);
      this.refresh();
    }
  }

  put(row) {
    this.rows.set(row.index, row);
    let card = this.cards.get(row.index);
    if (!card) {
      card = new RowCard(row, (verdict) => this.judge(row.index, verdict), () => this.select(row.index, false));
      this.cards.set(row.index, card);
      let next = this.list.lastElementChild;
      while (next && Number(next.dataset.row) > row.index) next = next.previousElementSibling;
      this.list.insertBefore(card.element, next ? next.nextElementSibling : this.list.firstElementChild);
    }
    card.show(row);
  }

  /** Draw what depends on all rows, once per frame. */
  refresh() {
    if (this.isWaiting) return;
    this.isWaiting = true;
    requestAnimationFrame(() => {
      this.isWaiting = false;
      if (this.isClosed || !this.session) return;
      const rows = [...this.rows.values()];
      this.funnel.show(rows, this.filters.reason);
      this.filters.show(rows);
      for (const [index, card] of this.cards) card.element.hidden = !this.filters.fits(this.rows.get(index));
      this.nothing.hidden = !rows.length || rows.some((row) => this.filters.fits(row));
      this.showHead();
      this.follow();
    });
  }

  showHead() {
    const { session } = this;
    if (!session) return;
    const parts = [session.model, `temperature ${session.temperature}`, session.category ?? "any category", `${plural(session.target, "row")}`];
    this.bar.show("Magpie", parts.join(" · "));
    const decided = [...this.rows.values()].filter((row) => row.state === "accepted" || row.state === "rejected");
    const stopped = decided.length < session.target;
    const kept = this.kept().length;
    const buttons = [];
    if (session.running) buttons.push(command("stop", "stop", "Stop", () => this.post("stop")));
    else {
      if (stopped) buttons.push(command("continue", "forward", "Continue", () => this.post("ask", { rows: 0 }), { class: "primary" }));
      buttons.push(command("more", "plus", "20 more", () => this.post("ask", { rows: 20 })));
    }
    buttons.push(command("export", "download", "Export", (event) => this.exportMenu(event.currentTarget), { disabled: !kept, "aria-haspopup": "menu" }),
      iconButton("more", "Sessions", (event) => this.sessionMenu(event.currentTarget), { "aria-haspopup": "menu" }));
    const key = JSON.stringify([session.running, stopped, !kept]);
    if (key !== this.controlsKey) {
      const focused = this.controls.contains(document.activeElement) ? document.activeElement.dataset.act : null;
      this.controls.replaceChildren(...buttons);
      if (focused) (this.controls.querySelector(`[data-act=${focused}]`) ?? this.controls.querySelector("button")).focus();
    }
    this.controlsKey = key;
    if (session.problem === this.problem) return;
    this.problem = session.problem;
    const again = ["Continue", () => this.post("ask", { rows: 0 })];
    this.notices.replaceChildren(...(session.problem ? [notice("error", session.problem, "", [again])] : []));
  }

  kept() {
    return [...this.rows.values()].filter((row) => row.kept);
  }

  /** Stay at the end while rows are added there, unless a row is selected. */
  follow() {
    const { scroller } = this;
    const isAtEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR + (this.height ? scroller.scrollHeight - this.height : 0);
    if (this.selected === null && this.session?.running && isAtEnd && this.height) scroller.scrollTop = scroller.scrollHeight;
    this.height = scroller.scrollHeight;
  }

  select(index, moves = true) {
    if (this.selected !== null) this.cards.get(this.selected)?.element.classList.remove("is-selected");
    this.selected = index;
    const card = this.cards.get(index);
    card.element.classList.add("is-selected");
    if (moves) {
      card.element.focus({ preventScroll: true });
      card.element.scrollIntoView({ block: "nearest" });
    }
  }

  move(step) {
    const shown = [...this.rows.keys()].sort((a, b) => a - b).filter((index) => this.filters.fits(this.rows.get(index)));
    if (!shown.length) return;
    const at = shown.indexOf(this.selected);
    this.select(shown[at < 0 ? (step > 0 ? 0 : shown.length - 1) : Math.max(0, Math.min(shown.length - 1, at + step))]);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || this.name === null) return;
    if (event.target.closest("input, textarea, select, dialog, .menu")) return;
    const run = {
      j: () => this.move(1),
      k: () => this.move(-1),
      a: () => this.selected !== null && this.judge(this.selected, "keep"),
      r: () => this.selected !== null && this.judge(this.selected, "reject"),
      u: () => this.selected !== null && this.judge(this.selected, null),
      e: () => this.kept().length && this.export("messages"),
    }[event.key];
    if (!run) return;
    event.preventDefault();
    run();
  }

  async judge(index, verdict) {
    try {
      this.put(await call("POST", `/magpie/${this.name}/rows/${index}`, { verdict }));
      this.refresh();
      announce({ keep: "Kept", reject: "Rejected" }[verdict] ?? "Verdict taken back");
    } catch (failure) {
      toast(failure.form.what);
    }
  }

  async post(action, body) {
    try {
      this.session = await call("POST", `/magpie/${this.name}/${action}`, body ?? {});
      this.refresh();
    } catch (failure) {
      this.notices.replaceChildren(failureNotice(failure.form, []));
    }
  }

  exportMenu(button) {
    openMenu(button, [
      ["Messages, for finetune", "download", () => this.export("messages")],
      ["All fields, as accepted.jsonl", "download", () => this.export("accepted")],
    ]);
  }

  async export(format) {
    const response = await request(`/page/magpie/${this.name}/export?format=${format}`);
    if (!response.ok) return toast("The rows could not be exported");
    const address = URL.createObjectURL(await response.blob());
    h("a", { href: address, download: `magpie-${this.name}.jsonl` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
    return toast(`${plural(this.kept().length, "row")} exported`);
  }

  sessionMenu(button) {
    const others = this.known.sessions.filter((name) => name !== this.name).slice(0, 8);
    openMenu(button, [
      ["New session", "plus", () => go("/magpie/new")],
      ...others.map((name) => [`Session of ${sessionTime(name)}`, "bird", () => go(`/magpie/${name}`)]),
      ["Delete this session", "trash", () => this.remove(), "danger"],
    ]);
  }

  async remove() {
    if (!(await confirm("Delete this session?", "Its rows and verdicts are deleted from this machine.", "Delete"))) return;
    await call("DELETE", `/magpie/${this.name}`);
    go("/magpie");
  }
}

/** A button of the bar; narrow screens show its icon alone. */
function command(name, symbol, label, run, attributes = {}) {
  return h("button", { type: "button", data: { act: name }, "aria-label": label, title: label, onclick: run, ...attributes }, icon(symbol), h("span", {}, label));
}

/** The time in a session's name, in words. */
function sessionTime(name) {
  const [, year, month, day, hour, minute, second] = name.match(/^(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)(\d\d)/);
  const time = new Date(Date.UTC(year, month - 1, day, hour, minute, second));
  return new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "short" }).format(time);
}

/** Open the Magpie view. */
export const openMagpie = (main, rest) => new MagpieView(main, rest);
