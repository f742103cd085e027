// The connection to a Magpie session: begun again after a break, let go of while the tab is hidden.
import { readEvents } from "./stream.js";

export class MagpieFeed {
  /** `receive(event, data)` gets a snapshot first, after each break too. */
  constructor(name, receive) {
    Object.assign(this, { name, receive });
    this.onVisible = () => this.connect();
    document.addEventListener("visibilitychange", this.onVisible);
    this.connect();
  }

  close() {
    document.removeEventListener("visibilitychange", this.onVisible);
    this.controller.abort();
    this.controller = null;
  }

  async connect() {
    this.controller?.abort();
    const own = this.controller = new AbortController();
    let pause = 500;
    while (own === this.controller && !document.hidden) {
      try {
        await readEvents(`/page/magpie/${this.name}/events`, own.signal, this.receive, () => { pause = 500; });
      } catch {
        // Begun again below.
      }
      if (own.signal.aborted) return;
      await new Promise((resolve) => setTimeout(resolve, pause));
      pause = Math.min(pause * 2, 8000);
    }
  }
}
