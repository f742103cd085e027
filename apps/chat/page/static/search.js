// Search over all conversations: results replace the list, with the matches marked.
import { call } from "./api.js";
import { h } from "./dom.js";
import { go } from "./router.js";

let latest = 0;

/** Let a field search; results show in one element instead of the list in another. */
export function openSearch(field, results, list, clear) {
  let timer = 0;
  const search = () => { clear.hidden = !field.value; find(field, results, list); };
  const empty = () => { field.value = ""; search(); field.focus(); };
  clear.addEventListener("click", empty);
  field.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(search, 150); });
  field.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") { event.preventDefault(); results.querySelector("button")?.focus(); }
    if (event.key === "Escape" && field.value) { event.stopPropagation(); empty(); }
  });
  results.addEventListener("keydown", (event) => {
    const items = [...results.querySelectorAll("button")];
    const at = items.indexOf(document.activeElement);
    if (event.key === "ArrowDown") items[Math.min(at + 1, items.length - 1)]?.focus();
    else if (event.key === "ArrowUp") (items[at - 1] ?? field).focus();
    else if (event.key === "Escape") { empty(); event.stopPropagation(); }
    else return;
    event.preventDefault();
  });
}

async function find(field, results, list) {
  const query = field.value.trim();
  const own = ++latest;
  results.hidden = !query;
  list.hidden = Boolean(query);
  if (!query) { results.replaceChildren(); return; }
  try {
    const hits = await call("GET", `/search?q=${encodeURIComponent(query)}`);
    if (own === latest) results.replaceChildren(...searchResults(hits));
  } catch (failure) {
    if (own === latest) results.replaceChildren(h("p.hint", {}, failure.message));
  }
}

/** One button a conversation; it leads to the newest matching message. */
export function searchResults(hits) {
  if (!hits.length) return [h("p.hint", {}, "Nothing found.")];
  return hits.map(({ conversation, message, excerpt }) => h("button.result", { type: "button", onclick: () => open(conversation, message) },
    h("strong", {}, conversation.title || "Untitled"),
    message ? h("span", {}, excerpt.map(([text, isMatch]) => (isMatch ? h("mark", {}, text) : text))) : null));
}

async function open(conversation, message) {
  if (message && !conversation.compare) await call("POST", `/messages/${message}/choose`).catch(() => {});
  const view = conversation.compare ? "compare" : "chat";
  go(`/${view}/${conversation.id}${message ? `?message=${message}` : ""}`);
}
