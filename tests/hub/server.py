"""A small Hugging Face hub on loopback, for the tests of downloads.

It implements what `huggingface_hub` requests when it downloads a model: the model API, the file tree, and files with
ETag, commit, size and byte ranges. As on the real hub, a request for weights is redirected to a second server of
another origin (the "CDN"). It can also misbehave: gate a repository, break a connection, stall, or return a captive
portal's log-in page.
"""

import hashlib
import json
import os
import re
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache as cache_result
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import safetensors.numpy
from huggingface_hub import constants, file_download
from huggingface_hub.utils import close_session  # type: ignore[attr-defined, unused-ignore]

SHARD_1 = "model-00001-of-00002.safetensors"
SHARD_2 = "model-00002-of-00002.safetensors"
REPO = "lab/llama"
CHUNK = 16 * 1024
"""Bytes per read of the client, hence the most that a broken connection can lose."""

PATIENCE = 20.0
"""Timeout of a stalled transfer in seconds, so that no test hangs."""


@dataclass
class Repository:
    """The files of one model, and access to them."""

    files: dict[str, bytes]
    tags: tuple[str, ...] = ()
    card: dict[str, Any] = field(default_factory=dict)
    """Front matter of its model card."""
    gate: int = 0
    """Status returned for the files of a gated repository (401 or 403); 0 if it is open."""

    @cached_property
    def commit(self) -> str:
        names = "".join(sorted(self.files))
        return hashlib.sha1(names.encode() + b"".join(self.files.values())).hexdigest()

    def knows(self, revision: str) -> bool:
        return revision in ("main", self.commit, *self.tags)


@dataclass
class Seen:
    """One request as received."""

    server: str
    """`hub` or `cdn`."""
    method: str
    path: str
    range: str | None
    authorization: str | None


@dataclass
class Hub:
    """The running server: its repositories, its failures, and the requests it received."""

    url: str = ""
    cdn_url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)
    """Bytes of file contents sent, by file name."""
    cut_after: dict[str, int] = field(default_factory=dict)
    """File name → bytes after which its next transfer breaks; each entry applies once."""
    stay_down: bool = False
    """Close the connection on every later GET of a file whose transfer broke."""
    dead: set[str] = field(default_factory=set)
    """Files whose transfer broke under `stay_down`."""
    stall_after: dict[str, int] = field(default_factory=dict)
    """File name → bytes after which its transfer stalls until `go_on` is set."""
    stalled: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    interrupt_on_stall: bool = False
    """Raise KeyboardInterrupt in this process when a transfer stalls."""
    status: int = 0
    """Status returned for every request; 0 for normal responses."""
    error_headers: dict[str, str] = field(default_factory=dict)
    portal: bool = False
    """Return a log-in page with status 200 for every request."""
    ignore_ranges: bool = False

    def gets(self, name: str) -> list[Seen]:
        """The GET requests for a file."""
        return [s for s in self.seen if s.method == "GET" and s.path.endswith("/" + name)]


TOKENIZER = json.dumps(
    {
        "added_tokens": [
            dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
            | {"id": 3, "content": "<|end|>", "special": True}
        ],
        "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "c": 2}, "unk_token": "a"},
    }
).encode()


def checkpoint(shards: int = 2, rows: int = 1200) -> dict[str, bytes]:
    """The files of a tiny Llama in Hugging Face layout, with shards of about `rows` × 256 bytes."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "vocab_size": rows,
        "tie_word_embeddings": True,
        "eos_token_id": 3,
    }
    generator = np.random.default_rng(0)
    tensors = {
        f"model.part.{number}.weight": generator.standard_normal((rows, 64)).astype(np.float32)
        for number in range(shards)
    }
    files = {
        "config.json": json.dumps(config).encode(),
        "generation_config.json": b'{"eos_token_id": [3, 4]}',
        "tokenizer.json": TOKENIZER,
        "chat_template.jinja": b"{{ messages[0]['content'] }}",
    }
    if shards == 1:
        return files | {"model.safetensors": safetensors.numpy.save(tensors)}
    names = {name: _shard(number, shards) for number, name in enumerate(tensors)}
    files |= {names[name]: safetensors.numpy.save({name: tensors[name]}) for name in tensors}
    index = {"metadata": {}, "weight_map": names}
    return files | {"model.safetensors.index.json": json.dumps(index).encode()}


def _shard(number: int, shards: int) -> str:
    return f"model-{number + 1:05d}-of-{shards:05d}.safetensors"


@contextmanager
def running_hub(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[Hub]:
    """Start a hub, and make `huggingface_hub` in this process use it and the cache folder `cache`."""
    hub = Hub()
    with _server(hub, "hub") as hub.url, _server(hub, "cdn") as hub.cdn_url:
        point_client_at(hub.url, monkeypatch, cache)
        yield hub
        hub.go_on.set()


def point_client_at(url: str, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Make `huggingface_hub`, which reads its settings on import, use the hub at `url`."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache.parent / "token"))
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(cache.parent / "agents.json"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_XET_HIGH_PERFORMANCE", False)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", CHUNK)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    patient = SimpleNamespace(sleep=lambda seconds: None, time=time.time)
    monkeypatch.setattr(file_download, "time", patient)  # its retries would wait a second each
    _forget_earlier_client()


@cache_result
def _forget_earlier_client() -> None:
    """Close, once, a client made by another test, which may use a proxy."""
    close_session()


def client_environment(hub: Hub, cache: Path) -> dict[str, str]:
    """Environment for a separate process that uses `hub`."""
    return os.environ | {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(cache.parent),
        "HF_HUB_CACHE": str(cache),
        "NO_PROXY": "127.0.0.1",
    }


@contextmanager
def _server(hub: Hub, role: str) -> Iterator[str]:
    handler = type("Handler", (_Handler,), {"hub": hub, "role": role})
    server = _LoopbackServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.002}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE)


class _LoopbackServer(ThreadingHTTPServer):
    """Skips the lookup of its own name, which takes seconds without a name server."""

    daemon_threads = True

    def server_bind(self) -> None:
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        return None  # clients that disconnect are part of these tests


class _Handler(BaseHTTPRequestHandler):
    """Serves the hub (`role` "hub") and its file store ("cdn")."""

    protocol_version = "HTTP/1.1"
    hub: Hub
    role: str

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        return None

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        headers = self.headers
        self.hub.seen.append(Seen(self.role, self.command, path, headers.get("Range"), headers.get("Authorization")))
        if self.hub.portal:
            return self._reply(200, b"<html>Welcome! Please log in.</html>")
        if self.hub.status:
            return self._reply(self.hub.status, headers=self.hub.error_headers)
        if found := re.fullmatch(r"/cdn/([^/]+/[^/]+)/(.+)", path):
            return self._send_file(found[2], self.hub.repositories[found[1]])
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path):
            return self._describe(found[1], found[2] or "revision", unquote(found[3] or "main"))
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._resolve(found[1], unquote(found[2]), unquote(found[3]))
        self._reply(404)

    def _repository(self, name: str, revision: str) -> Repository | None:
        repository = self.hub.repositories.get(name)
        if repository is None:
            self._reply(404, headers={"X-Error-Code": "RepoNotFound"})
        elif not repository.knows(revision):
            self._reply(404, headers={"X-Error-Code": "RevisionNotFound"})
        else:
            return repository
        return None

    def _describe(self, name: str, what: str, revision: str) -> None:
        repository = self._repository(name, revision)
        if repository is None:
            return
        if what == "tree":
            body: Any = [_entry(path, data) for path, data in sorted(repository.files.items())]
        else:
            siblings = [{"rfilename": path, "size": len(data)} for path, data in sorted(repository.files.items())]
            body = {"id": name, "sha": repository.commit, "siblings": siblings, "cardData": repository.card}
        self._reply(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _resolve(self, name: str, revision: str, path: str) -> None:
        repository = self._repository(name, revision)
        if repository is None:
            return
        if repository.gate:
            return self._reply(repository.gate, headers={"X-Error-Code": "GatedRepo"})
        if path not in repository.files:
            return self._reply(404, headers={"X-Error-Code": "EntryNotFound"})
        if not path.endswith((".safetensors", ".gguf")):
            return self._send_file(path, repository)
        data = repository.files[path]
        self._reply(
            302,
            headers={
                "Location": f"{self.hub.cdn_url}/cdn/{name}/{path}",
                "X-Repo-Commit": repository.commit,
                "X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"',
                "X-Linked-Size": str(len(data)),
            },
        )

    def _send_file(self, path: str, repository: Repository) -> None:
        if self.command == "GET" and path in self.hub.dead:
            return self._hang_up()
        data = repository.files[path]
        start, end = 0, len(data)
        asked = None if self.hub.ignore_ranges else self.headers.get("Range")
        headers = {"ETag": f'"{_git_sha(data)}"', "X-Repo-Commit": repository.commit}
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last) + 1, end) if last else end
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        self._head(206 if asked else 200, end - start, headers)
        if self.command == "GET":
            self._send_body(path, data[start:end])

    def _send_body(self, path: str, data: bytes) -> None:
        cut, stall = self.hub.cut_after.pop(path, None), self.hub.stall_after.pop(path, None)
        first = len(data) if cut is None and stall is None else min(cut or len(data), stall or len(data))
        self.wfile.write(data[:first])
        self.hub.sent[path] += first
        if cut is not None:
            if self.hub.stay_down:
                self.hub.dead.add(path)
            return self._hang_up()
        if stall is not None:
            self.hub.stalled.set()
            if self.hub.interrupt_on_stall:
                os.kill(os.getpid(), signal.SIGINT)
            self.hub.go_on.wait(PATIENCE)
            try:
                self.wfile.write(data[first:])
                self.hub.sent[path] += len(data) - first
            except OSError:
                self.close_connection = True  # the test made the client disconnect

    def _reply(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self._head(status, len(body), headers or {})
        if self.command == "GET":
            self.wfile.write(body)

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)


def _entry(path: str, data: bytes) -> dict[str, Any]:
    """One line of the tree API."""
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": _git_sha(data)}
    if path.endswith(".safetensors"):
        digest = hashlib.sha256(data).hexdigest()
        entry["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 134}
    return entry


def _git_sha(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
