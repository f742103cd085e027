// The counts of a Magpie session: asked, screened out, answered, rejected, kept, and the reasons.
import { h } from "./dom.js";
import { count } from "./format.js";

const WORDS = {
  instruction_limit: "too long", instruction_context: "context full", instruction_stop: "odd ending", instruction_empty: "empty", instruction_garbled: "not text",
  no_payload: "text missing", reply: "not a request", duplicate: "duplicate", near_duplicate: "near-duplicate", contaminated: "evaluation data",
  off_quota_category: "other category", near_meaning: "same meaning", low_quality: "low quality", unsafe: "unsafe",
  answer_limit: "response too long", answer_context: "context full", answer_stop: "odd ending", answer_empty: "empty response", answer_garbled: "response not text",
  answer_quality: "poor response", answer_unsafe: "unsafe response",
};
const isEarly = (row) => row.stage === "ask" || row.stage === "screen";

export class Funnel {
  /** `choose(reason)` shows the rows rejected for a reason. */
  constructor(choose) {
    this.choose = choose;
    this.steps = Object.fromEntries(["Asked", "Screened out", "Answered", "Rejected", "Kept"].map((name) => [name, h("dd", {}, "0")]));
    this.reasons = h("div.funnel-reasons", { role: "group", "aria-label": "Reasons for rejection" });
    this.element = h("section.funnel", { "aria-label": "Counts" },
      h("dl.funnel-steps", {}, Object.entries(this.steps).map(([name, value]) => h("div.funnel-step", { data: { step: name } }, h("dt", {}, name), value))),
      this.reasons);
  }

  show(rows, chosen) {
    const asked = rows.filter((row) => row.state !== "asking" && row.state !== "stopped");
    const out = rows.filter((row) => row.state === "rejected");
    const answered = rows.filter((row) => ["answered", "accepted"].includes(row.state) || (row.state === "rejected" && !isEarly(row)));
    const counts = {
      Asked: asked.length,
      "Screened out": out.filter((row) => isEarly(row) && !row.kept).length,
      Answered: answered.length,
      Rejected: answered.filter((row) => row.state !== "answered" && !row.kept).length,
      Kept: rows.filter((row) => row.kept).length,
    };
    for (const [name, value] of Object.entries(counts)) this.steps[name].textContent = count(value);
    const reasons = new Map();
    for (const row of out) reasons.set(row.reason, (reasons.get(row.reason) ?? 0) + 1);
    const key = JSON.stringify([[...reasons], chosen]);
    if (key === this.key) return;
    this.key = key;
    const focused = this.reasons.contains(document.activeElement) ? document.activeElement.dataset.reason : null;
    this.reasons.replaceChildren(...[...reasons].sort((a, b) => b[1] - a[1]).map(([reason, number]) =>
      h("button.chip", { type: "button", data: { reason }, "aria-pressed": String(reason === chosen), onclick: () => this.choose(reason) },
        WORDS[reason] ?? reason.replaceAll("_", " "), h("span.chip-count", {}, String(number)))));
    if (focused) this.reasons.querySelector(`[data-reason="${focused}"]`)?.focus();
  }
}
