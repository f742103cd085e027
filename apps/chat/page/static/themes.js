// Light, dark, or what the system says. The first paint is the business of theme.js.

const ORDER = ["system", "light", "dark"];
const ICONS = { system: "system", light: "sun", dark: "moon" };

export const theme = () => document.documentElement.dataset.theme ?? "system";
export const themeIcon = () => ICONS[theme()];
export const themeLabel = () => `Colours: ${theme()}. Change`;

/** Choose the next theme, for all tabs. */
export function nextTheme() {
  use(ORDER[(ORDER.indexOf(theme()) + 1) % ORDER.length]);
  localStorage.setItem("theme", theme());
}

function use(name) {
  if (name === "light" || name === "dark") document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
}

addEventListener("storage", (event) => { if (event.key === "theme") use(event.newValue); });
