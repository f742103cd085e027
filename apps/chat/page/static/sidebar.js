// The sidebar: new chat, search, the list of conversations, the other views.
import { call } from "./api.js";
import { confirm } from "./dialog.js";
import { h, icon, iconButton, toast } from "./dom.js";
import { closeDrawer } from "./drawer.js";
import { dayGroup } from "./format.js";
import { openMenu } from "./menu.js";
import { address, go } from "./router.js";
import { openSearch } from "./search.js";
import { openShortcuts } from "./shortcuts.js";
import { changed, listed, subscribe } from "./state.js";
import { nextTheme, themeIcon, themeLabel } from "./themes.js";
import { exportAll, exportOne, importFile } from "./transfer.js";

const entries = [];
let renaming = null;
let list;

/** Add an entry for a view. */
export function addEntry(name, label, iconName) {
  entries.push([name, label, iconName]);
}

/** Build the sidebar once. */
export function startSidebar() {
  const sidebar = document.getElementById("sidebar");
  const field = h("input", { type: "search", id: "search", placeholder: "Search", "aria-label": "Search conversations", autocomplete: "off", spellcheck: "false" });
  const results = h("div.results", { "aria-live": "polite", hidden: true });
  const clear = iconButton("close", "Clear the search", () => {}, { hidden: true });
  list = h("div.list");
  const chooser = h("input", { type: "file", accept: ".json,application/json", hidden: true, onchange: () => { importFile(chooser.files[0]); chooser.value = ""; } });
  const nav = h("div.views");
  const theme = iconButton(themeIcon(), themeLabel(), () => { nextTheme(); theme.replaceChildren(icon(themeIcon())); for (const name of ["aria-label", "title"]) theme.setAttribute(name, themeLabel()); });
  sidebar.append(
    h("div.sidebar-head", {},
      h("a.brand", { href: "#/chat" }, "mlx-suite"),
      iconButton("close", "Close", closeDrawer, { class: "icon-button drawer-close" })),
    h("button.new-chat", { type: "button", onclick: newChat, title: "Ctrl Shift O" }, icon("plus"), "New chat"),
    h("div.search-field", {}, icon("search"), field, clear, h("kbd", {}, /Mac|iPhone|iPad/.test(navigator.platform) ? "⌘K" : "Ctrl K")),
    results, list, nav,
    h("div.sidebar-foot", {},
      theme,
      iconButton("help", "Keyboard shortcuts", openShortcuts),
      iconButton("more", "Import and export", (event) => openMenu(event.currentTarget, [
        ["Import a file", "upload", () => chooser.click()],
        ["Export all as JSON", "download", () => exportAll("json")],
        ["Export all as messages rows", "download", () => exportAll("messages")],
      ]), { "aria-haspopup": "menu" }),
      chooser));
  openSearch(field, results, list, clear);
  const draw = () => { drawList(); drawViews(nav); };
  subscribe(draw);
  addEventListener("hashchange", draw);
  draw();
}

/** Begin a new chat. */
export function newChat() {
  closeDrawer();
  go("/chat");
}

function drawViews(nav) {
  const { name } = address();
  const link = ([view, label, iconName]) => h("a.view-link", { href: `#/${view}`, "aria-current": view === name && "page" }, icon(iconName), label);
  nav.replaceChildren(...entries.map(link));
}

function drawList() {
  if (renaming && list.contains(document.activeElement)) return;
  const focused = document.activeElement?.closest?.(".item")?.dataset.conversation;
  const { rest } = address();
  const parts = [];
  let group = "";
  for (const conversation of listed()) {
    const day = dayGroup(conversation.updated);
    if (day !== group) parts.push(h("h2", {}, group = day));
    parts.push(item(conversation, conversation.id === Number(rest[0])));
  }
  list.replaceChildren(...(parts.length ? parts : [h("p.hint", {}, "Your conversations appear here.")]));
  if (focused) list.querySelector(`[data-conversation="${focused}"] a`)?.focus();
}

function item(conversation, isCurrent) {
  const title = conversation.title || "Untitled";
  const more = iconButton("more", `Actions for ${title}`, () => openMenu(more, [
    ["Rename", "edit", () => rename(conversation, row)],
    conversation.writing && ["Stop", "stop", () => stop(conversation)],
    ["Export as JSON", "download", () => exportOne(conversation, "json")],
    ["Export as Markdown", "download", () => exportOne(conversation, "markdown")],
    ["Export as messages row", "download", () => exportOne(conversation, "messages")],
    ["Delete", "trash", () => remove(conversation), "danger"],
  ]), { "aria-haspopup": "menu", "aria-expanded": "false" });
  const row = h(`div.item${isCurrent ? ".is-current" : ""}`, { data: { conversation: conversation.id } },
    h("a", { href: addressOf(conversation), "aria-current": isCurrent && "page", title }, conversation.compare ? icon("columns") : null, h("span", {}, title)),
    conversation.writing ? iconButton("stop", `Stop the response in ${title}`, () => stop(conversation), { class: "icon-button is-writing" }) : null, more);
  return row;
}

/** Where a conversation is shown. */
export const addressOf = (conversation, message) => `#/${conversation.compare ? "compare" : "chat"}/${conversation.id}${message ? `?message=${message}` : ""}`;

function stop(conversation) {
  call("POST", `/conversations/${conversation.id}/stop`).catch((failure) => toast(failure.message));
}

function rename(conversation, row) {
  renaming = conversation.id;
  const end = async (isKept) => {
    if (renaming === null) return;
    renaming = null;
    const title = field.value.trim();
    if (isKept && title && title !== conversation.title) {
      await call("PATCH", `/conversations/${conversation.id}`, { title }).catch((failure) => toast(failure.message));
    }
    changed();
    list.querySelector(`[data-conversation="${conversation.id}"] a`)?.focus();
  };
  const field = h("input.rename", { "aria-label": "New title", value: conversation.title, maxlength: 200, onblur: () => end(true), onkeydown: (event) => {
    if (event.key !== "Enter" && event.key !== "Escape") return;
    event.stopPropagation();
    end(event.key === "Enter");
  } });
  row.replaceChildren(field);
  field.focus();
  field.select();
}

async function remove(conversation) {
  if (!(await confirm("Delete this conversation?", `“${conversation.title || "Untitled"}” and all its versions are deleted for good.`, "Delete"))) return;
  try {
    await call("DELETE", `/conversations/${conversation.id}`);
    document.querySelector(".new-chat").focus();
  } catch (failure) { toast(failure.message); }
}

