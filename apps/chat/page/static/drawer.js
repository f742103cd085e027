// The sidebar as a drawer on narrow screens; the rest of the page is out of reach while it is open.

const sidebar = () => document.getElementById("sidebar");
let opener = null;

export function openDrawer() {
  if (!matchMedia("(max-width: 900px)").matches) return;
  opener = document.activeElement;
  document.body.classList.add("has-drawer");
  document.getElementById("scrim").hidden = false;
  document.getElementById("main").inert = true;
  sidebar().querySelector("button, a, input")?.focus();
}

/** Close the drawer, if it is open. */
export function closeDrawer() {
  if (!document.body.classList.contains("has-drawer")) return false;
  document.body.classList.remove("has-drawer");
  document.getElementById("scrim").hidden = true;
  document.getElementById("main").inert = false;
  opener?.focus?.();
  return true;
}

document.getElementById("scrim").addEventListener("click", closeDrawer);
addEventListener("hashchange", closeDrawer);
