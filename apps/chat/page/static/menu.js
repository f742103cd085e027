// A menu of a button: arrow keys move, Escape and a click elsewhere close it, the focus goes back to the button.
import { h, icon } from "./dom.js";

let open = null;

/** Open a menu below its button: `items` are [label, icon, run, "danger" or nothing]. */
export function openMenu(button, items) {
  const wasOpen = open?.button === button;
  closeMenu();
  if (wasOpen) return;
  const menu = h("div.menu", { role: "menu", onkeydown: move },
    items.filter(Boolean).map(([label, name, run, kind]) =>
      h(`button.menu-item${kind ? `.${kind}` : ""}`, { type: "button", role: "menuitem", tabindex: "-1", onclick: () => { closeMenu(true); run(); } }, icon(name), label)));
  document.body.append(menu);
  const place = button.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = menu;
  menu.style.left = `${Math.max(8, Math.min(place.right - width, innerWidth - width - 8))}px`;
  menu.style.top = `${place.bottom + height + 8 > innerHeight ? Math.max(8, place.top - height - 4) : place.bottom + 4}px`;
  button.setAttribute("aria-expanded", "true");
  open = { menu, button };
  menu.querySelector("button")?.focus();
}

/** Close the open menu, if there is one. */
export function closeMenu(focus = false) {
  if (!open) return false;
  open.menu.remove();
  open.button.setAttribute("aria-expanded", "false");
  if (focus) open.button.focus();
  open = null;
  return true;
}

function move(event) {
  const items = [...open.menu.querySelectorAll("button")];
  const at = items.indexOf(document.activeElement);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
  if (to !== undefined) items.at(to % items.length).focus();
  else if (event.key === "Escape" || event.key === "Tab") closeMenu(true);
  else return;
  event.preventDefault();
  event.stopPropagation();
}

document.addEventListener("pointerdown", (event) => {
  if (open && !open.menu.contains(event.target) && !open.button.contains(event.target)) closeMenu();
});
