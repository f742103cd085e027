// The start of the page: load what it needs, then show the view of the address.
import { openChat } from "./chat.js";
import { openCompare } from "./compare.js";
import { h } from "./dom.js";
import { startKeyboard } from "./keyboard.js";
import { openMagpie } from "./magpie.js";
import { failureNotice } from "./notice.js";
import { register, startRouter } from "./router.js";
import { addEntry, startSidebar } from "./sidebar.js";
import { loadConversations, loadSetup, state, subscribe } from "./state.js";
import { addTokens } from "./tokens.js";

register("chat", openChat);
register("compare", openCompare);
register("magpie", openMagpie);
addEntry("compare", "Compare", "columns");
addEntry("magpie", "Magpie", "bird");
addTokens();

async function start() {
  const main = document.getElementById("main");
  main.replaceChildren(h("p.loading", { role: "status" }, "Loading…"));
  try {
    await loadSetup();
    await loadConversations();
  } catch (failure) {
    main.replaceChildren(h("div.start-failure", {}, failureNotice(failure.form ?? { what: String(failure) }, [["Retry", start]])));
    return;
  }
  startSidebar();
  subscribe(() => { document.querySelector(".connection").textContent = state.isOnline ? "" : "The server does not answer. Connecting…"; });
  startKeyboard();
  startRouter();
}

start();
