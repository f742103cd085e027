// The view that the address chooses: `#/chat/12`, `#/compare`, `#/magpie`.

const views = new Map();
let current = null;
let shown = null;

/**
 * Register a view. `open(main, rest, query)` fills the element and returns an object with `close()`, and, if it wants,
 * `update(rest, query)`: returns true if the same view can show the new address.
 */
export function register(name, open) {
  views.set(name, open);
}

export const isRegistered = (name) => views.has(name);
export const currentView = () => current;

/** Go to an address such as "/chat/12". */
export function go(address) {
  if (location.hash === `#${address}`) show();
  else location.hash = address;
}

/** The parts of the address. */
export function address() {
  const [path, query = ""] = location.hash.slice(1).split("?");
  const [name, ...rest] = path.split("/").filter(Boolean);
  return { name: name || "chat", rest, query: new URLSearchParams(query) };
}

export function show() {
  const { name, rest, query } = address();
  const open = views.get(name) ?? views.get("chat");
  if (shown === name && current?.update?.(rest, query)) return;
  current?.close();
  const main = document.getElementById("main");
  main.replaceChildren();
  main.dataset.view = name;
  shown = name;
  current = open(main, rest, query);
}

/** Show the view of the address, now and whenever it changes. */
export function startRouter() {
  addEventListener("hashchange", show);
  show();
}
