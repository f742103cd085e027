"""Chat servers under the same load: time to first token, pauses, tokens per second, failed requests, wrong text.

The servers load the same weights and get the same requests over HTTP, one server at a time, in changing order, each
round in a new process, so that no cache of an earlier round helps.
"""

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from .serving_client import Messages, Reply, ask, ask_all, ask_during
from .serving_peers import Peer, Server, ServerDown, start

TURNS = 5


def crowd_stage(clients: int) -> str:
    """Name of the stage in which so many clients ask at once."""
    return "1 client" if clients == 1 else f"{clients} clients"


@dataclass(frozen=True, kw_only=True)
class Load:
    """Size of the benchmark, in tokens."""

    clients: tuple[int, ...] = (1, 4, 8, 16)
    tokens: int = 96
    """Tokens of a completion."""
    user: int = 60
    """Tokens of a user turn; prompts of concurrent clients have between half and one and a half times as many."""
    answer: int = 64
    """Tokens of an answer in the chat of five turns."""
    running: int = 160
    """Tokens of the stream during which a long prompt arrives."""
    arriving: int = 2000
    """Tokens of that prompt."""
    checked: int = 32
    """Tokens of a concurrent client's text that are compared with the server's own alone."""
    rounds: int = 5

    def within(self, context: int) -> "Load":
        """The same load with shorter prompts if the context is short."""
        if context >= self.arriving + 64:
            return self
        turn = (context - 32) // TURNS - 12
        return replace(
            self,
            tokens=min(self.tokens, context // 2),
            user=min(self.user, turn // 2),
            answer=min(self.answer, turn // 2),
            running=min(self.running, context // 2),
            arriving=context - 64,
        )


@dataclass(kw_only=True)
class Measured:
    """Everything measured of one server, a value per round."""

    name: str
    blas: str = ""
    first_tokens: dict[int, list[float]] = field(default_factory=dict)
    """Seconds to the first token, by turn of the chat."""
    pauses: list[float] = field(default_factory=list)
    """The running stream's longest pause after the long prompt was sent, in seconds."""
    arriving: list[float] = field(default_factory=list)
    """Seconds to the first token of the long prompt."""
    speeds: dict[int, list[float]] = field(default_factory=dict)
    """Tokens per second of all clients together, by number of clients."""
    written: dict[int, list[int]] = field(default_factory=dict)
    """Tokens of all clients together."""
    requests: dict[str, int] = field(default_factory=dict)
    """Requests by stage: chat, long prompt, N clients."""
    failures: dict[str, list[str]] = field(default_factory=dict)
    """What failed, one entry per failed request, by stage."""
    retries: dict[str, int] = field(default_factory=dict)
    """Requests sent again after a closed connection, by stage."""
    differing: dict[int, int] = field(default_factory=dict)
    """Texts that differ from those of the same server alone, by number of clients."""
    peak_bytes: int | None = None
    """Peak resident memory."""
    down: str | None = None
    """Why the server did not start."""

    def median(self, stage: str) -> float | None:
        """Median of `turn N`, `pause`, `arriving` or a number of clients; None if it was not measured."""
        kind, number = (stage.split() + [""])[:2]
        values: dict[str, Sequence[float]] = {
            "turn": self.first_tokens.get(int(number), []) if kind == "turn" else [],
            "pause": self.pauses,
            "arriving": self.arriving,
        }
        found = self.speeds.get(int(kind), []) if kind.isdecimal() else values[kind]
        return statistics.median(found) if found else None


@dataclass(kw_only=True)
class Prompts:
    """User turns of words that the model's tokenizer holds as one token each."""

    words: Sequence[str]
    rng: random.Random

    def text(self, tokens: int) -> str:
        return "".join(self.rng.choice(self.words) for _ in range(tokens)).strip()

    def message(self, tokens: int) -> Messages:
        return [{"role": "user", "content": self.text(tokens)}]

    def crowd(self, clients: int, tokens: int) -> list[Messages]:
        """Prompts of different lengths."""
        return [self.message(self.rng.randint(tokens // 2, tokens + tokens // 2)) for _ in range(clients)]


@dataclass(kw_only=True)
class Stand:
    """A server during one round, started again if it has failed."""

    peer: Peer
    folder: Path
    log: Path
    greeting: str
    """The first request's text."""
    measured: Measured
    server: Server | None = None

    def __enter__(self) -> "Stand":
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        if self.server is not None:
            peak = self.server.peak_bytes()
            if peak is not None:
                self.measured.peak_bytes = max(peak, self.measured.peak_bytes or 0)
            self.server.stop()
            self.server = None

    def running(self) -> Server:
        """The server, started if it is not running. Raises ServerDown."""
        if self.server is None:
            self.server = start(self.peer, self.folder, self.log, self.greeting)
            self.measured.blas = self.server.blas()
        return self.server

    def judge(self, stage: str, replies: Sequence[Reply]) -> bool:
        """Count requests and failures of a stage; whether none failed. A server that failed is stopped."""
        measured = self.measured
        measured.requests[stage] = measured.requests.get(stage, 0) + len(replies)
        if retries := sum(reply.retries for reply in replies):
            measured.retries[stage] = measured.retries.get(stage, 0) + retries
        failed = [reply.failure for reply in replies if reply.failure]
        if failed:
            measured.failures.setdefault(stage, []).extend(failed)
            self.stop()
        return not failed


def compare(
    peers: Sequence[Peer],
    folder: Path,
    words: Sequence[str],
    load: Load,
    on_step: Callable[[str], None] = lambda step: None,
) -> list[Measured]:
    """Measure all servers; `on_step` is told what comes next. A server that fails is reported, and the others go on."""
    results = [Measured(name=peer.name) for peer in peers]
    with TemporaryDirectory() as logs:
        for round_ in range(load.rounds):
            order = list(zip(peers, results, strict=True))
            for peer, measured in order if round_ % 2 == 0 else reversed(order):
                if measured.down:
                    continue
                on_step(f"round {round_ + 1} of {load.rounds}: {peer.name}")
                prompts = Prompts(words=words, rng=random.Random(round_))
                log, greeting = Path(logs) / f"{peer.name}.log", prompts.text(load.user)
                with Stand(peer=peer, folder=folder, log=log, greeting=greeting, measured=measured) as stand:
                    try:
                        run_round(stand, prompts, load, check=round_ == 0)
                    except ServerDown as error:
                        measured.down = str(error)
    return results


def run_round(stand: Stand, prompts: Prompts, load: Load, check: bool) -> None:
    """All stages once; with `check`, texts of concurrent clients are compared with the server's own alone."""
    measured = stand.measured
    _chat(stand, prompts, load)
    running, arriving = prompts.message(load.user), prompts.message(load.arriving)
    if "long prompt" not in measured.failures:
        stream, other = ask_during(stand.running().endpoint, running, load.running, arriving)
        if stand.judge("long prompt", [stream, other]):
            measured.pauses.append(stream.longest_pause(other.sent))
            measured.arriving.append(other.first_token)
    for clients in load.clients:
        # Every server is given the same prompts, so they are drawn even if this stage is left out.
        crowd = prompts.crowd(clients, load.user)
        stage = crowd_stage(clients)
        if stage in measured.failures:
            continue
        replies = ask_all(stand.running().endpoint, crowd, load.tokens)
        if not stand.judge(stage, replies):
            continue
        seconds = max(reply.arrivals[-1] for reply in replies) - min(reply.sent for reply in replies)
        tokens = sum(reply.tokens for reply in replies)
        measured.speeds.setdefault(clients, []).append(tokens / seconds)
        measured.written.setdefault(clients, []).append(tokens)
        if check and clients > 1:
            alone = [ask(stand.running().endpoint, messages, load.checked) for messages in crowd]
            if stand.judge(f"{stage}, alone", alone):
                pairs = zip(replies, alone, strict=True)
                measured.differing[clients] = sum(not reply.text.startswith(single.text) for reply, single in pairs)


def _chat(stand: Stand, prompts: Prompts, load: Load) -> None:
    """A chat of five turns, whose earlier answers are the server's own."""
    turns = [prompts.text(load.user) for _ in range(TURNS)]
    if "chat" in stand.measured.failures:
        return
    messages: Messages = []
    for turn, text in enumerate(turns, start=1):
        messages = [*messages, {"role": "user", "content": text}]
        reply = ask(stand.running().endpoint, messages, load.answer)
        if not stand.judge("chat", [reply]):
            return
        stand.measured.first_tokens.setdefault(turn, []).append(reply.first_token)
        messages = [*messages, {"role": "assistant", "content": reply.text}]
