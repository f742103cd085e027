// The settings panel: model, system prompt and sampling of what is in view.
import { h, iconButton } from "./dom.js";
import { count } from "./format.js";
import { state } from "./state.js";

const FIELDS = [
  { name: "temperature", label: "Temperature", min: 0, max: 2, step: 0.05, help: "0 always takes the most probable token." },
  { name: "top_p", label: "Top-p", min: 0.01, max: 1, step: 0.01, help: "Keep the most probable tokens up to this total probability." },
  { name: "top_k", label: "Top-k", min: 0, max: 200, step: 1, help: "Keep this many tokens; 0 keeps all." },
  { name: "min_p", label: "Min-p", min: 0, max: 1, step: 0.01, help: "Keep tokens with this share of the highest probability." },
  { name: "repetition_penalty", label: "Repetition penalty", min: 0.5, max: 2, step: 0.05, help: "Above 1 makes tokens of the prompt and response less probable." },
  { name: "presence_penalty", label: "Presence penalty", min: -2, max: 2, step: 0.1, help: "Subtracted once from tokens already written." },
  { name: "frequency_penalty", label: "Frequency penalty", min: -2, max: 2, step: 0.1, help: "Subtracted for each time a token was written." },
];
const NUMBERS = [
  { name: "max_tokens", label: "Maximum tokens", min: 1, placeholder: "as the context has room for", help: "Longest response." },
  { name: "seed", label: "Seed", min: 0, placeholder: "a new one each time", help: "The same seed and prompt give the same response." },
];

const panel = document.getElementById("settings");
let target = null;
let opener = null;

/** The button that opens the panel. */
export const settingsButton = (open) => iconButton("settings", "Settings", open, { "aria-controls": "settings", class: "icon-button settings-button" });

/** Open the panel for a target: `read()` gives `{ model, system, settings }`, `write(changes)` takes some of them. */
export function openSettings(next) {
  if (!panel.hidden && target === next) { closeSettings(); return; }
  opener = document.activeElement;
  target = next;
  draw();
  panel.hidden = false;
  document.body.classList.add("has-settings");
  panel.querySelector("select").focus();
}

/** Close the panel, if it is open. */
export function closeSettings() {
  if (panel.hidden) return false;
  panel.hidden = true;
  target = null;
  document.body.classList.remove("has-settings");
  if (opener?.isConnected) opener.focus();
  return true;
}

/** Show other values, or those of the view that took the place of the target's. */
export function refreshSettings(view) {
  if (panel.hidden || panel.contains(document.activeElement)) return;
  if (target !== view && !target?.isPart) target = view;
  if (target === view) draw();
}

function draw() {
  const { model, system, settings } = target.read();
  const write = (changes) => target.write(changes);
  const set = (name, value) => {
    const next = { ...target.read().settings };
    if (value === null || value === state.defaults[name]) delete next[name];
    else next[name] = value;
    return write({ settings: next });
  };
  panel.replaceChildren(
    h("header.panel-head", {}, h("h2", {}, target.settingsTitle ?? "Settings"), iconButton("close", "Close settings", closeSettings)),
    h("div.panel-body", {},
      h("label", { for: "model" }, "Model"), modelField(model, (name) => write({ model: name })),
      h("label", { for: "system" }, "System prompt"),
      h("textarea", { id: "system", rows: 4, value: system, placeholder: "How the model should behave", onchange: (event) => write({ system: event.target.value }) }),
      h("h3", {}, "Sampling"),
      FIELDS.map((field) => slider(field, settings, set)),
      NUMBERS.map((field) => numberField(field, settings, set)),
      h("button.quiet", { type: "button", onclick: async () => { await write({ settings: {} }); draw(); } }, "Reset to defaults")));
}

function modelField(chosen, write) {
  const option = (model) => h("option", { value: model.name, selected: model.name === (chosen || state.models[0]?.name) }, `${model.name} · ${count(model.context)} tokens`);
  const bases = state.models.filter((model) => !model.is_adapter);
  const field = h("select", { id: "model", onchange: (event) => write(event.target.value) });
  const adapters = state.models.filter((model) => model.is_adapter);
  if (adapters.length) field.append(h("optgroup", { label: "Models" }, bases.map(option)), h("optgroup", { label: "Adapters" }, adapters.map(option)));
  else field.append(...bases.map(option));
  if (chosen && !state.models.some((model) => model.name === chosen)) field.append(h("option", { value: chosen, selected: true }, `${chosen} · not served`));
  return field;
}

function slider({ name, label, help, ...range }, settings, set) {
  const value = settings[name] ?? state.defaults[name];
  const field = h("input", { type: "range", "aria-label": `${label}, slider`, ...range, value, oninput: () => { exact.value = field.value; }, onchange: () => set(name, Number(field.value)) });
  const exact = h("input.exact", { type: "number", id: name, "aria-describedby": `${name}-help`, ...range, step: range.step === 1 ? 1 : "any", value, onchange: () => take() });
  const take = () => {
    if (!exact.checkValidity() || exact.value === "") { exact.reportValidity(); return; }
    field.value = exact.value;
    set(name, Number(exact.value));
  };
  return h("div.setting", {}, h("label", { for: name }, label), exact, field, h("p.hint", { id: `${name}-help` }, help));
}

function numberField({ name, label, help, ...attributes }, settings, set) {
  const field = h("input", { type: "number", id: name, step: 1, "aria-describedby": `${name}-help`, ...attributes, value: settings[name] ?? "", onchange: () => {
    if (!field.checkValidity()) { field.reportValidity(); return; }
    set(name, field.value === "" ? null : Number(field.value));
  } });
  return h("div.setting.plain", {}, h("label", { for: name }, label), field, h("p.hint", { id: `${name}-help` }, help));
}
