// Requests to the server. A failure is always a `Failure`, which the page shows where it happened.
import { askForKey } from "./key.js";

export class Failure extends Error {
  constructor(form, status) {
    super(form.what);
    this.form = form;
    this.code = form.code;
    this.status = status;
  }
}

const GONE = { code: "gone", what: "The server does not answer", fix: "start it again, then try again", details: [] };

/** Send a request with the key, if there is one; ask for a key when the server wants one. */
export async function request(path, options = {}) {
  for (;;) {
    const key = sessionStorage.getItem("api-key");
    const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
    let response;
    try {
      response = await fetch(path, { ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Failure(GONE, 0);
    }
    if (response.status !== 401) return response;
    if (!(await askForKey(Boolean(key), key))) {
      throw new Failure({ code: "key", what: "This server needs an API key", fix: "enter the key it was started with", details: [] }, 401);
    }
  }
}

/** The JSON that a request returns. */
export async function call(method, path, body) {
  const options = { method };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers = { "Content-Type": "application/json" };
  }
  return answer(await request(`/page${path}`, options));
}

/** The JSON of a response, or its error as a Failure. */
export async function answer(response) {
  let value = null;
  try {
    value = await response.json();
  } catch {
    // An error page of something in between; the status says enough.
  }
  if (response.ok) return value;
  const form = value?.error?.what ? value.error : { code: "error", what: value?.detail || `The server answered with status ${response.status}`, fix: "", details: [] };
  throw new Failure({ details: [], fix: "", ...form }, response.status);
}
