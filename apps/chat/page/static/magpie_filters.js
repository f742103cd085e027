// Which rows of a Magpie session are shown.
import { h } from "./dom.js";

const isBusy = (row) => ["asking", "screening", "answering", "answered"].includes(row.state);
const FILTERS = [
  ["all", "All", () => true],
  ["busy", "In progress", isBusy],
  ["kept", "Kept", (row) => row.kept],
  ["out", "Rejected", (row) => !row.kept && !isBusy(row) && row.state !== "stopped"],
  ["hand", "By hand", (row) => row.verdict !== null],
];

export class Filters {
  filter = "all";
  /** Only rows rejected for this reason; null for any. */
  reason = null;

  /** `changed()` is called after another choice. */
  constructor(changed) {
    this.changed = changed;
    this.element = h("div.magpie-filters", { role: "group", "aria-label": "Show rows" });
  }

  choose(filter, reason = null) {
    this.filter = filter;
    this.reason = reason;
    this.changed();
  }

  fits(row) {
    if (this.reason) return row.reason === this.reason;
    return FILTERS.find(([name]) => name === this.filter)[2](row);
  }

  show(rows) {
    const counts = FILTERS.map(([, , fits]) => rows.filter(fits).length);
    const key = JSON.stringify([this.filter, this.reason, counts]);
    if (key === this.key) return;
    this.key = key;
    const focused = this.element.contains(document.activeElement) ? document.activeElement.dataset.filter : null;
    this.element.replaceChildren(...FILTERS.map(([name, label], at) =>
      h("button.chip", { type: "button", data: { filter: name }, "aria-pressed": String(this.filter === name && !this.reason), onclick: () => this.choose(name) },
        label, h("span.chip-count", {}, String(counts[at])))));
    if (focused) this.element.querySelector(`[data-filter=${focused}]`)?.focus();
  }
}
