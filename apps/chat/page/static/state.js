// What the whole page knows: models, conversations, and the settings of the next new chat. Views subscribe to changes.
import { call } from "./api.js";
import { on } from "./events.js";

export const state = {
  models: [],
  defaults: {},
  version: "",
  conversations: new Map(),
  isOnline: true,
  /** Model, system prompt and settings of a chat that is not stored yet. */
  draft: readDraft(),
};

const subscribers = new Set();
/** Number of the last event of each conversation: a list that was requested before it is older. */
const events = new Map();
let eventCount = 0;

/** Call `subscriber` after each change; returns a function that ends it. */
export function subscribe(subscriber) {
  subscribers.add(subscriber);
  return () => subscribers.delete(subscriber);
}

export function changed() {
  for (const subscriber of [...subscribers]) subscriber();
}

/** Load what does not change while the server runs. */
export async function loadSetup() {
  Object.assign(state, await call("GET", "/setup"));
  if (!state.models.some((model) => model.name === state.draft.model)) state.draft.model = "";
}

export async function loadConversations() {
  const before = eventCount;
  const all = await call("GET", "/conversations");
  const loaded = new Map(all.map((conversation) => [conversation.id, conversation]));
  for (const [id, number] of events) {
    if (number <= before) continue;
    if (state.conversations.has(id)) loaded.set(id, state.conversations.get(id));
    else loaded.delete(id);
  }
  state.conversations = loaded;
  changed();
}

/** Conversations, the last updated first. */
export const listed = () => [...state.conversations.values()].sort((a, b) => (a.updated < b.updated ? 1 : -1) || b.id - a.id);

/** The served model of this name; the default one for "". */
export const modelNamed = (name) => state.models.find((model) => model.name === name) ?? state.models[0];

export function saveDraft(changes) {
  Object.assign(state.draft, changes);
  localStorage.setItem("new-chat", JSON.stringify(state.draft));
  changed();
}

function readDraft() {
  try {
    return { model: "", system: "", settings: {}, ...JSON.parse(localStorage.getItem("new-chat") ?? "{}") };
  } catch {
    return { model: "", system: "", settings: {} };
  }
}

on("conversation", (conversation) => {
  events.set(conversation.id, ++eventCount);
  state.conversations.set(conversation.id, conversation);
  changed();
});
on("deleted", ({ conversation }) => {
  events.set(conversation, ++eventCount);
  state.conversations.delete(conversation);
  changed();
});
on("offline", () => {
  if (!state.isOnline) return;
  state.isOnline = false;
  changed();
});
on("hello", async () => {
  const wasOffline = !state.isOnline;
  state.isOnline = true;
  if (wasOffline) await loadSetup().catch(() => {});
  await loadConversations().catch(() => {});
});
