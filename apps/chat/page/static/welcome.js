// What an empty chat shows: the model, and something to try.
import { h } from "./dom.js";
import { count } from "./format.js";

const TRIES = [
  ["Explain", "Explain the difference between a list and a tuple in Python."],
  ["Write", "Write a short story about a lighthouse keeper."],
  ["Plan", "Plan a day in a city by the sea, hour by hour."],
  ["Code", "Write a function that returns the n-th Fibonacci number."],
];

/** `use(text)` puts a text into the field. */
export function welcome(model, use) {
  return h("div.welcome", {},
    h("h2", {}, "What would you like to know?"),
    model ? h("p", {}, h("strong", {}, model.name), model.is_adapter ? `, an adapter on ${model.base}` : "", `, with room for ${count(model.context)} tokens. It runs on your own machine, and nothing leaves it.`) : null,
    h("ul.tries", {}, TRIES.map(([name, text]) => h("li", {}, h("button", { type: "button", onclick: () => use(text) }, h("strong", {}, name), h("span", {}, text))))));
}
