// Numbers and facts in words.

const number = new Intl.NumberFormat("en");

export const count = (value) => number.format(value);
export const speed = (value) => number.format(value < 100 ? value : Math.round(value));
export const plural = (value, word) => `${count(value)} ${word}${value === 1 ? "" : "s"}`;

/** Name of the model of a response, with its adapter. */
export const modelOf = (facts) => (facts.adapter ? facts.adapter : facts.model || "Assistant");

/** Why a response ended, if it is not the usual reason. */
export const ENDINGS = {
  limit: "Ended at the maximum of tokens.",
  context: "The context is full: the model has no room to write on.",
  time: "Ended at the time limit.",
  cancelled: "Stopped.",
};

/** The name of the day's group of a time: Today, Yesterday, … */
export function dayGroup(time, now = new Date()) {
  const start = new Date(now.getFullYear(), now.getMonth(), now.getDate());
  const days = Math.ceil((start - new Date(time)) / 86400000);
  if (days <= 0) return "Today";
  if (days === 1) return "Yesterday";
  return days <= 7 ? "Last seven days" : "Earlier";
}
