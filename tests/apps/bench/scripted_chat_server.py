"""A chat server for the benchmark's tests, run as `python scripted_chat_server.py PORT MODE DIARY`.

Modes: good; errors (HTTP 500 to completions of CROWD tokens), dies (ends at the first of them), early (its streams end
without a finish), mixes (the first answer to a prompt differs from later ones), short (one token), uncounted (no
usage).
"""

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CROWD = 6
"""Tokens that the tests ask for in completions of concurrent clients, and nowhere else."""

seen: set[str] = set()
lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    mode = "good"
    diary = Path()

    def do_GET(self) -> None:
        self._send(200, json.dumps({"data": [{"id": "scripted"}]}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = json.dumps(body["messages"])
        with lock:
            first = prompt not in seen
            seen.add(prompt)
            with self.diary.open("a") as diary:
                diary.write(json.dumps(body) + "\n")
        if self.mode == "errors" and body["max_tokens"] == CROWD:
            return self._send(500, b"{}")
        if self.mode == "dies" and body["max_tokens"] == CROWD:
            os._exit(1)
        word = " other" if self.mode == "mixes" and first else " word"
        count = 1 if self.mode == "short" else body["max_tokens"]
        events: list[Any] = [{"choices": [{"delta": {"role": "assistant"}}]}]
        events += [{"choices": [{"delta": {"content": word}}]} for _ in range(count)]
        if self.mode != "early":
            events.append({"choices": [{"delta": {}, "finish_reason": "length"}]})
        if self.mode != "uncounted":
            events.append({"choices": [], "usage": {"completion_tokens": count}})
        lines = [f"data: {json.dumps(event)}\n\n" for event in events] + [": ping\n\n", "data: [DONE]\n\n"]
        self._send(200, "".join(lines).encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def serve(port: int, mode: str, diary: Path) -> ThreadingHTTPServer:
    """A server that listens on 127.0.0.1; port 0 is a free one."""
    handler = type("ModeHandler", (Handler,), {"mode": mode, "diary": diary})
    return ThreadingHTTPServer(("127.0.0.1", port), handler)


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])).serve_forever()
