// The HTML of a response, which the server has rendered and sanitised. This is the only place where a string becomes HTML.
import { icon, toast } from "./dom.js";

/** Show HTML in a container; children that did not change stay, with their selection and scroll position. */
export function showAnswer(container, html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  const wanted = template.content;
  prepare(wanted);
  const next = [...wanted.childNodes];
  let at = 0;
  while (at < next.length && at < container.childNodes.length && container.childNodes[at].isEqualNode(next[at])) at++;
  while (container.childNodes.length > at) container.lastChild.remove();
  container.append(...next.slice(at));
}

function prepare(fragment) {
  for (const button of fragment.querySelectorAll("button.copy")) {
    const language = button.previousElementSibling?.textContent;
    button.setAttribute("aria-label", language ? `Copy ${language} code` : "Copy code");
    button.append(icon("copy"), "Copy");
  }
  for (const code of fragment.querySelectorAll(".code-block pre, div.table")) code.tabIndex = 0; // scrolls by keyboard
}

/** Copy a text; say so on the button. */
export async function copyText(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyBySelection(text);
  }
  if (!button) return;
  const before = [...button.childNodes];
  const words = button.classList.contains("icon-button") ? [icon("check")] : [icon("check"), "Copied"];
  button.replaceChildren(...words);
  button.classList.add("is-done");
  toast("Copied");
  setTimeout(() => { button.replaceChildren(...before); button.classList.remove("is-done"); }, 1500);
}

// Without HTTPS, and on another machine than the server, browsers have no clipboard for pages.
function copyBySelection(text) {
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "unseen";
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("button.copy");
  const code = button?.closest(".code-block")?.querySelector("code");
  if (code) copyText(code.textContent, button);
});
