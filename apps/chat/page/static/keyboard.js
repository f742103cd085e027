// Shortcuts of the whole page.
import { closeDrawer, openDrawer } from "./drawer.js";
import { closeMenu } from "./menu.js";
import { currentView } from "./router.js";
import { closeSettings, openSettings } from "./settings.js";
import { openShortcuts } from "./shortcuts.js";
import { newChat } from "./sidebar.js";

/** Listen to the keys. */
export function startKeyboard() {
  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]")) return;
    const isControl = event.ctrlKey || event.metaKey;
    const key = event.key.toLowerCase();
    if (isControl && key === "k") search();
    else if (isControl && event.shiftKey && key === "o") newChat();
    else if (isControl && event.shiftKey && (key === "," || key === "<")) currentView()?.read && openSettings(currentView());
    else if (key === "escape") escape();
    else if (key === "?" && !isControl && !isField(event.target)) openShortcuts();
    else return;
    event.preventDefault();
  });
}

function search() {
  openDrawer();
  const field = document.getElementById("search");
  field.focus();
  field.select();
}

function escape() {
  if (closeMenu(true) || closeDrawer()) return;
  const panel = document.getElementById("settings");
  if (panel.contains(document.activeElement)) { closeSettings(); return; }
  if (currentView()?.isWriting) currentView().stop();
  else closeSettings();
}

const isField = (target) => target.matches?.("input, textarea, select, [contenteditable]");
