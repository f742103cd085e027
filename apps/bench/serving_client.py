"""A client of a chat server: one streamed response, with the time of every piece of its text."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Messages = list[dict[str, str]]

PATIENCE = 60.0
"""Seconds without a byte after which a request has failed."""
RETRIES = 2
"""As often as the official clients send a request again: a full backlog of connections is not yet a failed request."""
WAITING = 0.2
"""Seconds before a request is sent again."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where a server listens, and by which name it knows its model."""

    port: int
    model: str


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A response as its client saw it. Times are seconds of `time.perf_counter`."""

    sent: float
    arrivals: tuple[float, ...]
    """When each piece of text arrived."""
    text: str
    tokens: int
    """By the server's usage; the number of pieces if it reports none."""
    failure: str | None = None
    """Why the response is not complete."""
    retries: int = 0
    """How often the request was sent again because the server closed the connection without a word."""

    @property
    def first_token(self) -> float:
        """Seconds from the request to the first piece of text; NaN without any."""
        return self.arrivals[0] - self.sent if self.arrivals else float("nan")

    def longest_pause(self, since: float) -> float:
        """The longest time between two pieces of text of which the second arrived after `since`."""
        pairs = zip(self.arrivals, self.arrivals[1:], strict=False)
        return max((after - before for before, after in pairs if after > since), default=0.0)


def ask(
    endpoint: Endpoint,
    messages: Messages,
    max_tokens: int,
    on_piece: Callable[[int], None] = lambda count: None,
    patience: float = PATIENCE,
) -> Reply:
    """Stream a greedy chat completion; `on_piece` is called with the number of pieces so far. Never raises OSError."""
    body = {
        "model": endpoint.model,
        "messages": messages,
        "max_tokens": max_tokens,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    arrivals: list[float] = []
    text, tokens, failure, finished = "", 0, None, False
    retries = 0
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=patience)
    sent = time.perf_counter()
    try:
        while (response := _post(connection, body, last=retries == RETRIES)) is None:
            retries += 1
            time.sleep(WAITING)
        if response.status != 200:
            failure = f"HTTP {response.status}"
        else:
            for event in _events(response):
                piece, reported, ended, trouble = _read(event)
                failure, finished = failure or trouble, finished or ended
                tokens = reported or tokens
                if piece:
                    arrivals.append(time.perf_counter())
                    text += piece
                    on_piece(len(arrivals))
    except TimeoutError:
        failure = f"no answer in {patience:.0f} s"
    except (OSError, http.client.HTTPException) as error:
        failure = f"connection lost ({type(error).__name__})"
    finally:
        connection.close()
    if failure is None and not (finished and arrivals):
        failure = "the stream ended early"
    return Reply(
        sent=sent,
        arrivals=tuple(arrivals),
        text=text,
        tokens=tokens or len(arrivals),
        failure=failure,
        retries=retries,
    )


def ask_all(endpoint: Endpoint, prompts: Sequence[Messages], max_tokens: int) -> list[Reply]:
    """One client per prompt, all at once."""
    replies: dict[int, Reply] = {}
    barrier = threading.Barrier(len(prompts))

    def client(number: int) -> None:
        barrier.wait()
        replies[number] = ask(endpoint, prompts[number], max_tokens)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [replies[number] for number in range(len(prompts))]


def ask_during(
    endpoint: Endpoint, running: Messages, tokens: int, arriving: Messages, after: int = 16
) -> tuple[Reply, Reply]:
    """A running stream, and another client's request that arrives after `after` pieces of it."""
    under_way = threading.Event()
    replies: list[Reply] = []

    def on_piece(count: int) -> None:
        if count >= after:
            under_way.set()

    def client() -> None:
        replies.append(ask(endpoint, running, tokens, on_piece))
        under_way.set()

    thread = threading.Thread(target=client)
    thread.start()
    under_way.wait()
    arrived = ask(endpoint, arriving, 4)
    thread.join()
    return replies[0], arrived


def _post(connection: http.client.HTTPConnection, body: dict[str, Any], last: bool) -> http.client.HTTPResponse | None:
    """Send a request; None if the server closed the connection before it answered, unless this was the last try."""
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        return connection.getresponse()
    except (ConnectionResetError, BrokenPipeError):
        if last:
            raise
        connection.close()
        return None


def _events(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """The JSON objects of a stream of server-sent events."""
    while line := response.readline():
        if not line.startswith(b"data:"):
            continue
        data = line[len(b"data:") :].strip()
        if data == b"[DONE]":
            return
        yield json.loads(data)


def _read(event: dict[str, Any]) -> tuple[str, int, bool, str | None]:
    """(text, completion tokens, whether the response ends, what failed) of one event."""
    if error := event.get("error"):
        return "", 0, True, str(error.get("message", error) if isinstance(error, dict) else error)[:60]
    tokens = (event.get("usage") or {}).get("completion_tokens") or 0
    for choice in event.get("choices") or []:
        delta = choice.get("delta") or {}
        reason = choice.get("finish_reason")
        trouble = f"finish_reason {reason}" if reason not in (None, "stop", "length") else None
        return delta.get("content") or delta.get("reasoning_content") or "", tokens, reason is not None, trouble
    return "", tokens, False, None
