// Files: conversations exported and imported.
import { answer, request } from "./api.js";
import { h, toast } from "./dom.js";
import { show } from "./dialog.js";
import { plural } from "./format.js";
import { failureNotice } from "./notice.js";
import { go } from "./router.js";

export const exportOne = (conversation, format) => save(`/page/export?format=${format}&conversation=${conversation.id}`);
export const exportAll = (format) => save(`/page/export?format=${format}`);

async function save(path) {
  try {
    const response = await request(path);
    if (!response.ok) await answer(response);
    const name = response.headers.get("Content-Disposition")?.match(/filename="(.*)"/)?.[1] ?? "conversations.json";
    const link = h("a", { href: URL.createObjectURL(await response.blob()), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  } catch (failure) { tell(failure); }
}

/** Add the conversations of a file. */
export async function importFile(file) {
  if (!file) return;
  try {
    const added = await answer(await request(`/page/import?name=${encodeURIComponent(file.name)}`, { method: "POST", body: await file.arrayBuffer() }));
    toast(`Imported ${plural(added.length, "conversation")}`);
    if (added.length === 1) go(`/${added[0].compare ? "compare" : "chat"}/${added[0].id}`);
  } catch (failure) { tell(failure); }
}

function tell(failure) {
  const dialog = h("dialog.dialog", { "aria-label": "Problem" },
    failureNotice(failure.form ?? { what: String(failure) }, []),
    h("div.dialog-buttons", {}, h("button.primary", { type: "button", onclick: () => dialog.close() }, "Close")));
  show(dialog);
}

