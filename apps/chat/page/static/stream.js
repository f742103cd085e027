// Server-sent events read with fetch, which can send the API key; EventSource cannot.
import { request } from "./api.js";

/** Call `receive(name, data)` with each event until the stream ends. Throws if it breaks or is aborted. */
export async function readEvents(path, signal, receive, opened = () => {}) {
  const response = await request(path, { signal });
  if (!response.ok) throw new Error(response.statusText);
  opened();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const name = block.match(/^event: (.*)$/m)?.[1];
      if (name) receive(name, JSON.parse(block.match(/^data: (.*)$/m)[1]));
    }
  }
}
