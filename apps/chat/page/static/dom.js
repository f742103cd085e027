// Elements made from data. Text is only ever set as text; no string becomes HTML here.

/** An element: `h("button.copy", { type: "button", onclick }, "Copy")`. Names with "on" are listeners; false and null are left out. */
export function h(selector, attributes = {}, ...children) {
  const [tag, ...classes] = selector.split(".");
  const element = document.createElement(tag || "div");
  if (classes.length) element.className = classes.join(" ");
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked") element[name] = value;
    else if (name === "data") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

// Each icon is one path on a grid of 24.
const PATHS = {
  plus: "M12 5v14M5 12h14",
  search: "M10.5 17a6.5 6.5 0 1 1 0-13 6.5 6.5 0 0 1 0 13ZM15.5 15.5 20 20",
  menu: "M4 7h16M4 12h16M4 17h16",
  close: "M6 6l12 12M18 6 6 18",
  more: "M5.5 12a.5.5 0 1 0 1 0 .5.5 0 1 0-1 0ZM11.5 12a.5.5 0 1 0 1 0 .5.5 0 1 0-1 0ZM17.5 12a.5.5 0 1 0 1 0 .5.5 0 1 0-1 0Z",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7.5 7.5h9v9h-9z",
  copy: "M9 9h10v10H9zM5 15V5h10",
  check: "M5 12.5l4.5 4.5L19 7.5",
  retry: "M19 12a7 7 0 1 1-2.2-5.1M19 4v4h-4",
  edit: "M5 19l1-4L16 5l3 3L9 18l-4 1Z",
  branch: "M7 5v14M7 13c0-3 10-1 10-6M17 7V5M5 5h4M15 5h4M5 19h4",
  forward: "M6 6l6 6-6 6M13 6l6 6-6 6",
  left: "M14 7l-5 5 5 5",
  right: "M10 7l5 5-5 5",
  down: "M12 5v14M6 13l6 6 6-6",
  settings: "M4 8h9M17 8h3M4 16h3M11 16h9M15 6v4M9 14v4",
  sun: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8ZM12 3v2M12 19v2M3 12h2M19 12h2M5.6 5.6 7 7M17 17l1.4 1.4M5.6 18.4 7 17M17 7l1.4-1.4",
  moon: "M19 14.5A7.5 7.5 0 0 1 9.5 5a7.5 7.5 0 1 0 9.5 9.5Z",
  system: "M4 5h16v11H4zM9 20h6",
  columns: "M4 5h16v14H4zM12 5v14",
  bird: "M4 17c5 1 10-1 11-7 .4-2.5 2-4 4-4l2 1-2 1.5c0 6-4 10.5-9 10.5M4 17l5-4",
  help: "M9.5 9a2.5 2.5 0 1 1 3.5 2.300c-.7.4-1 .9-1 1.700M12 16.5h.01M12 21a9 9 0 1 1 0-18 9 9 0 0 1 0 18Z",
  tokens: "M4 6h4v4H4zM12 6h8v4h-8zM4 14h8v4H4zM16 14h4v4h-4z",
  upload: "M12 16V5M7 10l5-5 5 5M5 19h14",
  download: "M12 5v11M7 11l5 5 5-5M5 19h14",
  trash: "M5 7h14M10 7V5h4v2M7 7l1 12h8l1-12",
  warning: "M12 9v4M12 16.5h.01M12 4 3.5 19h17Z",
};

/** A drawing that is hidden from screen readers; its button has the label. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [key, value] of [["viewBox", "0 0 24 24"], ["class", `icon icon-${name}`], ["aria-hidden", "true"]]) svg.setAttribute(key, value);
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/** A button with an icon; the label is for screen readers and the tooltip. */
export function iconButton(name, label, onclick, attributes = {}) {
  return h("button.icon-button", { type: "button", "aria-label": label, title: label, onclick, ...attributes }, icon(name));
}

/** Whether the device is used with fingers: Enter then writes a line break, and fields are not focused unasked. */
export const isTouch = () => matchMedia("(pointer: coarse)").matches || matchMedia("(max-width: 700px)").matches;

/** Tell screen readers, once the present speech is over. */
export function announce(text) {
  const region = document.getElementById("announcer");
  region.textContent = "";
  requestAnimationFrame(() => { region.textContent = text.slice(0, 1500); });
}

/** A short message at the lower edge. */
export function toast(text) {
  const note = h("div.toast", {}, text);
  document.getElementById("toasts").append(note);
  setTimeout(() => note.remove(), 4000);
}
