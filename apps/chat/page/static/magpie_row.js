// One row of a Magpie session: its instruction and response, how far it is, and a person's verdict.
import { h, icon } from "./dom.js";

const STATES = {
  asking: "Asking", screening: "Screening", answering: "Answering", answered: "Judging", accepted: "Accepted", rejected: "Rejected", stopped: "Stopped",
};
const TAGS = { category: "", difficulty: "", language: "", input_quality: "instruction ", answer_quality: "response " };

export class RowCard {
  /** `judge(verdict)` notes a verdict; `select()` is called when the card gets the focus. */
  constructor(row, judge, select) {
    this.judge = judge;
    this.badge = h("span.badge");
    this.why = h("span.row-why");
    this.instruction = h("p.row-instruction");
    this.response = h("p.row-response");
    this.tags = h("ul.row-tags", { "aria-label": "Tags" });
    this.keep = this.verdict("keep", "check", "Keep");
    this.reject = this.verdict("reject", "close", "Reject");
    this.verdicts = h("div.row-verdict", { role: "group", "aria-label": "Verdict" }, this.keep, this.reject);
    this.foot = h("div.row-foot", {}, this.tags, this.verdicts);
    this.element = h("article.row-card", { role: "listitem", tabindex: "0", "aria-label": `Row ${row.index + 1}`, onfocusin: select, data: { row: row.index } },
      h("div.row-head", {}, h("span.row-number", {}, String(row.index + 1)), this.badge, this.why),
      this.instruction, this.response,
      this.foot);
  }

  verdict(name, symbol, label) {
    const toggle = () => this.judge(this.row.verdict === name ? null : name);
    return h(`button.verdict.${name}`, { type: "button", onclick: toggle }, icon(symbol), label);
  }

  show(row) {
    this.row = row;
    const { element } = this;
    element.dataset.state = row.state;
    element.dataset.kept = row.kept;
    this.badge.textContent = row.verdict === "keep" ? "Kept by hand" : row.verdict === "reject" ? "Rejected by hand" : STATES[row.state];
    this.badge.dataset.kind = row.kept ? "kept" : row.state === "rejected" || row.verdict === "reject" ? "out" : "busy";
    this.why.textContent = row.explanation ? sentence(row) : "";
    this.instruction.textContent = row.instruction;
    this.response.textContent = row.response;
    this.response.hidden = !row.response && row.state !== "answering";
    this.tags.replaceChildren(...Object.entries(TAGS).filter(([name]) => row.tags[name]).map(([name, what]) =>
      h("li", { title: name.replace("_", " ") }, what, row.tags[name])));
    const isDecided = row.state === "accepted" || row.state === "rejected";
    this.foot.hidden = !isDecided;
    this.verdicts.hidden = !row.complete; // there is nothing to keep
    this.keep.setAttribute("aria-pressed", String(row.verdict === "keep"));
    this.reject.setAttribute("aria-pressed", String(row.verdict === "reject"));
  }

  /** A text has grown. */
  grow(part, text) {
    this.row[part] = this[part].textContent + text;
    this[part].append(text);
    this[part].hidden = false;
  }
}

function sentence(row) {
  const text = row.explanation[0].toUpperCase() + row.explanation.slice(1);
  return row.duplicate_of === null ? text : `${text}: row ${row.duplicate_of + 1}`;
}
