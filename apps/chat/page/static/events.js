// The server's events: one connection for the whole tab, which also carries the text of the watched responses.
// A hidden tab lets go of it: browsers open only six connections to a server.
import { readEvents } from "./stream.js";

const listeners = new Map();
const streams = new Map();
const finished = new Map();
let watched = [];
let controller = null;
let pause = 500;

/** Call `listener` with the data of each event of this name; returns a function that ends it. */
export function on(name, listener) {
  if (!listeners.has(name)) listeners.set(name, new Set());
  listeners.get(name).add(listener);
  return () => listeners.get(name).delete(listener);
}

/** The HTML, the meters and the saved length of a response that is being written; undefined if it is not known. */
export const streaming = (message) => streams.get(message);

/** The message as it is known: a list that was on its way while its response ended does not know that yet. */
export const newest = (message) => (message.state === "writing" && finished.get(message.id)) || message;

/** Watch the responses of these conversations instead of others. */
export function watch(conversations) {
  if (String(conversations) === String(watched) && controller) return;
  watched = conversations;
  connect();
}

function emit(name, data) {
  for (const listener of listeners.get(name) ?? []) listener(data);
}

async function connect() {
  controller?.abort();
  if (document.hidden) { controller = null; return; }
  const own = controller = new AbortController();
  const query = watched.map((number) => `watch=${number}`).join("&");
  try {
    await readEvents(`/page/events?${query}`, own.signal, receive, () => {
      streams.clear();
      pause = 500;
    });
  } catch (error) {
    if (own.signal.aborted) return;
  }
  if (own !== controller) return;
  emit("offline", {});
  setTimeout(() => { if (own === controller) connect(); }, pause);
  pause = Math.min(pause * 2, 8000);
}

function receive(name, value) {
  if (name === "text") {
    const before = streams.get(value.message)?.html ?? "";
    value.html = before.slice(0, value.keep) + value.html;
    streams.set(value.message, value);
  } else if (name === "finished") {
    streams.delete(value.id);
    finished.set(value.id, value);
  } else if (name === "started") {
    finished.delete(value.message);
  }
  emit(name, value);
}

document.addEventListener("visibilitychange", () => { connect(); });
