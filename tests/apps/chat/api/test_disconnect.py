"""Clients that leave: their requests' work stops, whatever they were waiting for."""

import asyncio
import json
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import pytest

from mlx_suite_apps.chat.api import sse
from tests.apps.chat.api.live_server import secured_app, serving
from tests.apps.chat.api.openai_server import HI
from tests.apps.chat.api.scripted_service import Script, ScriptedService

LOOKS = 1000
"""How often to look for an effect; 10 ms each."""

CHAT = ("/v1/chat/completions", {"messages": HI})
TEXT = ("/v1/completions", {"prompt": ["a", "b"]})
RESPONSE = ("/v1/responses", {"input": "Hi"})


def sent(url: str, path: str, body: Any) -> socket.socket:
    """A connection on which a request was sent."""
    address = urlsplit(url)
    connection = socket.create_connection((address.hostname, address.port or 0), timeout=10)
    text = json.dumps(body).encode()
    head = ["Host: 127.0.0.1", "Content-Type: application/json", f"Content-Length: {len(text)}"]
    connection.sendall("\r\n".join([f"POST {path} HTTP/1.1", *head, "", ""]).encode() + text)
    return connection


def received(connection: socket.socket, last: bytes, times: int = 1) -> bytes:
    """What the server sends, until `last` has come that many times."""
    text = b""
    while text.count(last) < times:
        more = connection.recv(4096)
        assert more, f"the server hung up after {text!r}"
        text += more
    return text


def happens(condition: Any) -> bool:
    """Whether a condition becomes true."""
    for _ in range(LOOKS):
        if condition():
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(("path", "body"), [CHAT, TEXT, RESPONSE])
def test_a_client_that_leaves_before_the_first_token_ends_its_request(path: str, body: Any, streams: bool) -> None:
    service = ScriptedService(Script(silent=True))
    with serving(secured_app(service)) as url:
        connection = sent(url, path, {**body, "stream": streams})
        assert happens(lambda: service.streams)
        connection.close()
        assert happens(lambda: all(stream.cancelled for stream in service.streams))


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(("path", "body"), [CHAT, TEXT, RESPONSE])
def test_a_client_that_leaves_within_a_response_ends_its_request(path: str, body: Any, streams: bool) -> None:
    service = ScriptedService(Script("Hello there.", hangs_after=1))
    with serving(secured_app(service)) as url:
        connection = sent(url, path, {**body, "stream": streams})
        if streams:
            received(connection, b"Hello")
        assert happens(lambda: service.streams)
        connection.close()
        assert happens(lambda: all(stream.cancelled for stream in service.streams))


def test_a_client_that_leaves_ends_its_embeddings(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []

    async def embed(*_: Any) -> list[list[float]]:
        log.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            log.append("cancelled")
        return []

    monkeypatch.setattr(ScriptedService, "embed", embed)
    with serving(secured_app(ScriptedService())) as url:
        connection = sent(url, "/v1/embeddings", {"input": "Hi"})
        assert happens(lambda: log == ["begun"])
        connection.close()
        assert happens(lambda: log == ["begun", "cancelled"])


def test_a_client_that_stays_gets_its_whole_response() -> None:
    service = ScriptedService(Script("Hello there.", delay=0.01))
    with serving(secured_app(service)) as url, sent(url, *CHAT) as connection:
        assert b"Hello there." in received(connection, b'"usage"')


def test_a_silent_stream_sends_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "PING_SECONDS", 0.01)
    with serving(secured_app(ScriptedService(Script(silent=True)))) as url:
        with sent(url, "/v1/chat/completions", {"messages": HI, "stream": True}) as connection:
            assert b"text/event-stream" in received(connection, b": ping\n\n", times=2)
