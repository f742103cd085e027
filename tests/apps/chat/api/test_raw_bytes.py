"""Bytes that are no proper request, sent to a running server; and clients that leave."""

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from tests.apps.chat.api.live_server import secured_app, serving
from tests.apps.chat.api.scripted_service import Script, ScriptedService

CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
ROUNDS = 1000
"""How often to look whether something has happened; 10 ms each."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(secured_app(ScriptedService(Script("Hello there.")))) as address:
        yield address


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing is logged as an error."""
    with caplog.at_level(logging.WARNING):
        yield
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


def exchange(url: str, sent: bytes) -> bytes:
    """What the server answers to these bytes until it or we close the connection."""
    where = urlsplit(url)
    with socket.create_connection((where.hostname, where.port), timeout=10) as connection:
        received = b""
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                received += piece
        except TimeoutError:
            raise
        except OSError:  # closed before all was sent
            pass
    return received


def body(content: bytes) -> bytes:
    """A chat completion with this body."""
    return CHAT + b"Content-Length: %d\r\n\r\n" % len(content) + content


def chat(field: bytes) -> bytes:
    """A chat completion whose body has one more field."""
    return body(b'{"model": "tiny-llama3", "messages": [{"role": "user", "content": "Hi"}], ' + field + b"}")


BROKEN = {
    "no request": b"\x00\x01\x02\x03\xff\xfe\r\n\r\n",
    "a request line of one word": b"GET\r\n\r\n",
    "a method that does not exist": b"B\xc3\xa4H / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "a version that does not exist": b"GET / HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n",
    "TLS": bytes.fromhex("160301020001000001fc0303") + bytes(300),
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
    "a host of another site": b"GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "an absolute target": b"GET http://evil.example/health HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "a header without a colon": b"GET /health HTTP/1.1\r\nHost 127.0.0.1\r\n\r\n",
    "a header with a NUL": b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX: a\x00b\r\n\r\n",
    "a header of a megabyte": b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n",
    "ten thousand headers": b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    "a path of a megabyte": b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "a length that is not a number": CHAT + b"Content-Length: abc\r\n\r\n{}",
    "a negative length": CHAT + b"Content-Length: -5\r\n\r\n{}",
    "two lengths": CHAT + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a length of 2 to the 64": CHAT + b"Content-Length: 18446744073709551616\r\n\r\n{}",
    "a length over the limit": CHAT + b"Content-Length: 32000001\r\n\r\n",
    "a length and chunks": CHAT + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunks that are none": CHAT + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n{}\r\n",
    "a chunk that is cut off": CHAT + b"Transfer-Encoding: chunked\r\n\r\nff\r\n{}",
    "an encoding that does not exist": CHAT + b"Transfer-Encoding: gzip\r\n\r\n{}",
    "a body that is cut off": CHAT + b'Content-Length: 500\r\n\r\n{"model"',
    "an empty body": body(b""),
    "no JSON": body(b"model=tiny-llama3"),
    "JSON that is no object": body(b"[1, 2, 3]"),
    "invalid UTF-8": body(b'{"model": "\xff\xfe\xfd"}'),
    "UTF-16": body('{"model": "tiny-llama3"}'.encode("utf-16")),
    "NUL bytes": body(b"\x00" * 100),
    "a NUL in a string": body(b'{"model": "tiny\x00llama3"}'),
    "100,000 arrays": body(b"[" * 100_000 + b"]" * 100_000),
    "100,000 arrays that stay open": body(b"[" * 100_000),
    "100,000 objects": chat(b'"metadata": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "1e400": chat(b'"temperature": 1e400'),
    "minus infinity": chat(b'"temperature": -Infinity'),
    "NaN": chat(b'"temperature": NaN'),
    "a number of 10,000 digits": chat(b'"seed": ' + b"9" * 10_000),
    "half a surrogate pair": chat(b'"user": "\\ud800"'),
    "a fraction for a count": chat(b'"max_tokens": 1.5'),
}


@pytest.mark.parametrize("sent", BROKEN.values(), ids=BROKEN)
def test_broken_bytes_are_refused_or_the_connection_is_closed(url: str, quiet: None, sent: bytes) -> None:
    received = exchange(url, sent)
    assert b"Traceback" not in received
    assert received == b"" or received.split(b" ")[1].startswith(b"4")
    assert httpx.get(f"{url}/health").status_code == 200


def test_a_request_of_another_site_gets_none_of_the_answer(url: str) -> None:
    sent = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: https://evil.example\r\n\r\n"
    received = exchange(url, sent)
    assert received.startswith(b"HTTP/1.1 403 ")
    assert b"tiny-llama3" not in received


def eventually(happened: object) -> bool:
    """Whether `happened()` within some seconds."""
    assert callable(happened)
    for _ in range(ROUNDS):
        if happened():
            return True
        time.sleep(0.01)
    return False


REQUESTS = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
    "/v1/completions": {"prompt": "Hi"},
    "/v1/responses": {"input": "Hi"},
    "/v1/messages": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 50},
    "/api/chat": {"messages": [{"role": "user", "content": "Hi"}]},
    "/api/generate": {"prompt": "Hi"},
}


@pytest.mark.parametrize(
    "script", [Script(silent=True), Script("Hello there.", hangs_after=1)], ids=["silent", "begun"]
)
def test_a_hundred_clients_that_leave_keep_nothing_running(script: Script) -> None:
    service = ScriptedService(script)
    with serving(secured_app(service)) as url:
        where = urlsplit(url)
        for number in range(100):
            path = list(REQUESTS)[number % len(REQUESTS)]
            fields = {"model": "tiny-llama3", "stream": number % 4 < 2, **REQUESTS[path]}
            content = json.dumps(fields).encode()
            head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            with socket.create_connection((where.hostname, where.port), timeout=10) as connection:
                connection.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(content) + content)
                assert eventually(lambda: len(service.streams) > number), path  # noqa: B023
        assert eventually(lambda: service.status().running == 0)
        assert all(stream.cancelled for stream in service.streams)
        assert len(service.streams) == 100


def test_other_clients_are_answered_while_bodies_are_kept_waiting(url: str) -> None:
    where = urlsplit(url)
    slow = [socket.create_connection((where.hostname, where.port), timeout=10) for _ in range(50)]
    try:
        for connection in slow:
            connection.sendall(CHAT + b"Content-Length: 100\r\n\r\n{")
        answers = [httpx.get(f"{url}/health").status_code for _ in range(3)]
    finally:
        for connection in slow:
            connection.close()
    assert answers == [200, 200, 200]
    assert threading.active_count() < 40
