// The bar over a view: the drawer's button on narrow screens, the title, the model.
import { h, iconButton } from "./dom.js";
import { openDrawer } from "./drawer.js";

/** A bar with buttons at its end; `show(title, model)` fills it. */
export function topbar(...buttons) {
  const title = h("h1");
  const model = h("p.model-name");
  const element = h("header.topbar", {}, iconButton("menu", "Conversations", openDrawer, { class: "icon-button drawer-button" }),
    h("div.topbar-title", {}, title, model), h("div.topbar-buttons", {}, buttons));
  return {
    element,
    show(text, name) {
      title.textContent = text || "Untitled";
      model.textContent = name;
    },
  };
}
