// The tokens of a response in place of its text: shaded by probability, each with its alternatives, and a branch at any.
import { messageActions } from "./actions.js";
import { call } from "./api.js";
import { h, iconButton } from "./dom.js";
import { plural } from "./format.js";
import { failureNotice } from "./notice.js";

const LEVELS = [0.9, 0.7, 0.5, 0.3, 0.15, 0.05, 0];
let card = null;

/** The level of shading: 0 for a token that was nearly certain, more the less probable it was. */
const level = (probability) => LEVELS.findIndex((least) => probability >= least);

/** A probability in per cent, with the digits that matter. */
export function percent(probability) {
  const value = probability * 100;
  if (value >= 99.95) return "100 %";
  if (value < 0.1) return "< 0.1 %";
  return `${value.toFixed(value < 10 ? 1 : 0)} %`;
}

/** A token's text with visible spaces and line breaks. */
function visible(token) {
  if (token.ends) return "end";
  return token.text.replaceAll("\n", "↵").replaceAll("\t", "⇥").replace(/^ +| +$/g, (spaces) => "·".repeat(spaces.length)) || "∅";
}

class TokensPanel {
  constructor(view, message) {
    this.view = view;
    this.message = message;
    this.text = h("div.tokens-text", { role: "group", "aria-label": "Tokens", onkeydown: (event) => this.key(event) });
    this.note = h("p.tokens-note", {}, "Scoring …");
    this.element = h("section.tokens", { "aria-label": "Tokens of the response" },
      h("div.tokens-head", {}, this.note, legend(), iconButton("close", "Back to the text", () => this.close())), this.text);
    view.body.hidden = true;
    view.body.after(this.element);
    this.load();
  }

  close() {
    closeCard();
    this.element.remove();
    this.view.body.hidden = false;
    this.view.tokens = null;
    this.view.element.focus({ preventScroll: true });
  }

  async load() {
    let scored;
    try {
      scored = await call("GET", `/messages/${this.message.id}/tokens`);
    } catch (failure) {
      this.note.textContent = "";
      this.text.replaceChildren(failureNotice(failure.form, [["Try again", () => this.load()]]));
      return;
    }
    this.tokens = scored.tokens;
    const unscored = scored.unscored ? ` The last ${plural(scored.unscored, "token")} are not shown.` : "";
    const encoded = scored.exact ? "" : " The text was encoded again.";
    this.note.textContent = `${plural(scored.tokens.length, "token")}, scored by ${scored.model}.${encoded}${unscored}`;
    this.chips = scored.tokens.map((token, at) => this.chip(token, at));
    this.text.replaceChildren(...this.chips.flatMap((chip, at) => (scored.tokens[at].text.includes("\n") ? [chip, h("br")] : [chip])));
    if (this.chips.length) this.chips[0].tabIndex = 0;
    else this.note.textContent = "This response has no tokens.";
  }

  chip(token, at) {
    const label = `${token.ends ? "end of the response" : token.text.trim() || "space"}, ${percent(token.probability)}`;
    return h("button.token", {
      type: "button", tabindex: "-1", "aria-label": label, title: percent(token.probability), "aria-haspopup": "dialog",
      data: { level: level(token.probability), at, ...(token.ends ? { ends: "" } : {}) }, onclick: () => this.open(at),
    }, visible(token));
  }

  open(at) {
    closeCard();
    const chip = this.chips[at], token = this.tokens[at];
    for (const each of this.chips) each.tabIndex = each === chip ? 0 : -1;
    const problem = h("div");
    const list = h("ul.alternatives", {}, token.alternatives.map((other) => this.alternative(at, token, other, problem)));
    const isListed = token.alternatives.some((other) => other.id === token.id);
    const element = h("div.token-card", { role: "dialog", "aria-label": `Alternatives to ${visible(token)}` },
      h("p.token-title", {}, h("code", {}, visible(token)), h("span", {}, percent(token.probability)), h("span.token-hint", {}, isListed ? "choose another to branch here" : "not among the ten most probable")),
      list, problem);
    document.body.append(element);
    place(element, chip);
    chip.classList.add("is-open");
    card = { element, chip };
    element.querySelector("button:not(:disabled)")?.focus({ preventScroll: true });
    element.addEventListener("keydown", (event) => this.cardKey(event, at));
  }

  alternative(at, token, other, problem) {
    const isChosen = other.id === token.id;
    const word = visible({ ...other, ends: this.tokens.some((each) => each.ends && each.id === other.id) });
    return h("li", {}, h("button.alternative", {
      type: "button", disabled: isChosen, data: { token: other.id }, onclick: () => this.branch(at, other, problem),
      "aria-label": isChosen ? `${word}, ${percent(other.probability)}, the response's token` : `Branch here with ${word}, ${percent(other.probability)}`,
    },
    h("code", {}, word),
    h("meter", { min: 0, max: 1, value: other.probability, "aria-hidden": "true" }),
    h("span.alternative-percent", {}, percent(other.probability)),
    h("span.alternative-act", {}, "Branch here")));
  }

  async branch(at, other, problem) {
    try {
      await call("POST", `/messages/${this.message.id}/tokens/branch`, { position: at, token: other.id });
      this.close();
    } catch (failure) {
      problem.replaceChildren(failureNotice(failure.form, []));
    }
  }

  key(event) {
    const at = this.chips?.indexOf(document.activeElement) ?? -1;
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: (this.chips?.length ?? 0) - 1 }[event.key];
    if (event.key === "Escape") this.close();
    else if (at < 0 || to === undefined || !this.chips[to]) return;
    else {
      this.chips[at].tabIndex = -1;
      this.chips[to].tabIndex = 0;
      this.chips[to].focus();
    }
    event.preventDefault();
    event.stopPropagation();
  }

  cardKey(event, at) {
    const buttons = [...card.element.querySelectorAll("button:not(:disabled)")];
    const now = buttons.indexOf(document.activeElement);
    const chip = this.chips[at];
    if (event.key === "ArrowDown") buttons[(now + 1) % buttons.length]?.focus();
    else if (event.key === "ArrowUp") buttons.at(now - 1)?.focus();
    else if (event.key === "Escape" || event.key === "Tab") { closeCard(); chip.focus(); }
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

function legend() {
  return h("div.tokens-legend", { "aria-hidden": "true" }, h("span", {}, "certain"), LEVELS.map((_, at) => h("i", { data: { level: at } })), h("span", {}, "surprising"));
}

/** Put a card below its token, or above it where there is no room. */
function place(element, chip) {
  const box = chip.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = element;
  element.style.left = `${Math.max(8, Math.min(box.left, innerWidth - width - 8))}px`;
  element.style.top = `${box.bottom + height + 12 > innerHeight ? Math.max(8, box.top - height - 6) : box.bottom + 6}px`;
}

function closeCard() {
  card?.element.remove();
  card?.chip.classList.remove("is-open");
  card = null;
}

document.addEventListener("pointerdown", (event) => {
  if (card && !card.element.contains(event.target) && !card.chip.contains(event.target)) closeCard();
});
addEventListener("scroll", (event) => { if (card && !card.element.contains(event.target)) closeCard(); }, true);
addEventListener("resize", closeCard);
addEventListener("hashchange", closeCard);

/** Let every response show its tokens. */
export function addTokens() {
  messageActions.push({
    icon: "tokens",
    label: "Tokens",
    when: (message, place) => message.role === "assistant" && message.state !== "writing" && Boolean(message.content) && Boolean(message.parent) && Boolean(place.canChange),
    run(message, place) {
      const view = place.thread.views.get(message.id);
      if (view.tokens) view.tokens.close();
      else view.tokens = new TokensPanel(view, message);
    },
  });
}
