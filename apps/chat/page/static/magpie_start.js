// The form that starts a Magpie session.
import { call } from "./api.js";
import { h } from "./dom.js";
import { failureNotice } from "./notice.js";
import { state } from "./state.js";

/** What Magpie is, in two sentences. */
export const INTRODUCTION = "Given only the header of a user turn, a chat model writes an instruction of its own, and then the response to it. "
  + "Here you watch every row being asked, screened and answered, keep or reject it, and export what was kept for finetuning.";

/** The form; `started(session)` is called with the new session, `others` are buttons beside the first. */
export function startForm(categories, started, others = []) {
  const model = h("select", { id: "magpie-model", onchange: () => fill() }, state.models.map((each) => h("option", { value: each.name }, each.name)));
  const category = h("select", { id: "magpie-category" });
  const fill = () => category.replaceChildren(h("option", { value: "" }, "Any"), ...(categories[model.value] ?? []).map((name) => h("option", { value: name }, name)));
  const rows = h("input", { id: "magpie-rows", type: "number", min: 1, max: 5000, value: "20", required: true });
  const temperature = h("input", { id: "magpie-temperature", type: "number", min: 0, max: 2, step: "any", value: "1", required: true });
  const longest = h("input", { id: "magpie-longest", type: "number", min: 1, max: 100000, value: "1024", required: true });
  const problem = h("div");
  const button = h("button.primary", { type: "submit" }, "Start");
  fill();
  const start = async (event) => {
    event.preventDefault();
    button.disabled = true;
    problem.replaceChildren();
    try {
      const settings = { model: model.value, rows: rows.valueAsNumber, temperature: temperature.valueAsNumber, max_answer: longest.valueAsNumber };
      started(await call("POST", "/magpie", { ...settings, category: category.value || null }));
    } catch (failure) {
      problem.replaceChildren(failureNotice(failure.form, []));
    } finally {
      button.disabled = false;
    }
  };
  return h("form.magpie-form", { onsubmit: start },
    field("Model", model, ""),
    h("div.magpie-fields", {},
      field("Rows to ask", rows, "You can ask more later."),
      field("Temperature", temperature, "1 is the model's own distribution."),
      field("Category", category, "Steers the model; others are rejected."),
      field("Longest response", longest, "In tokens.")),
    problem,
    h("div.magpie-buttons", {}, button, others));
}

function field(label, control, hint) {
  const id = `${control.id}-hint`;
  if (hint) control.setAttribute("aria-describedby", id);
  return h("div.field", {}, h("label", { for: control.id }, label), control, hint ? h("p.hint", { id }, hint) : null);
}
