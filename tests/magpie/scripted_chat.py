"""A scripted chat model: functions supply its texts and label preferences, and characters are its tokens."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

from mlx_suite.engine import Given, Queries, Reply, Request, Rewind, Sample, Sampling, Written
from mlx_suite.text import Message

END = 0
"""Stop token of every turn."""
Says = Callable[[str, int], str]
"""Continues a text, in which turns are written `[user] …|`; takes the salt too."""
Prefers = Callable[[str], tuple[float, float]]
"""Log-probabilities of two labels after a text."""


class ScriptedChat:
    """Implements the interface of `engine.chat_model.ChatModel`."""

    def __init__(self, says: Says, prefers: Prefers = lambda text: (0.0, 0.0), name: str = "scripted") -> None:
        self.says, self.prefers, self.name = says, prefers, name
        self.tokenizer, self.context = SimpleNamespace(encode=_ids), 1 << 20
        self.response_end, self.response_ends = END, frozenset({END})
        self.folder = None
        self.written = 0
        """Number of texts generated so far."""

    def prompt(self, messages: Sequence[Message]) -> tuple[int, ...] | None:
        if any(message.content == "refuse this" for message in messages):
            return None
        turns = "".join(f"[{message.role}] {message.content}|" for message in messages)
        return tuple(_ids(f"{turns}[assistant] "))

    def follow_up(self, text: str) -> tuple[int, ...]:
        return tuple(_ids(f"[user] {text}|[assistant] "))

    def response(self, limit: int, sampling: Sampling, salt: int = 0) -> Sample:
        return Sample(limit=limit, stop=frozenset({END}), sampling=sampling, salt=salt)

    def text(self, written: Written) -> str:
        return _text(written.tokens).strip()

    def facts(self) -> dict[str, Any]:
        return {"model": self.name, "weights": self.name}

    def run(self, requests: Iterable[Request]) -> Iterator[Any]:
        for request in requests:
            yield self._result(request)

    def _result(self, request: Request) -> Any:
        sequence: list[int] = []
        outcome: Any = None
        while True:
            try:
                segment = request.program.send(outcome)
            except StopIteration as stop:
                return stop.value
            outcome = None
            if isinstance(segment, Given):
                sequence += segment.tokens
            elif isinstance(segment, Rewind):
                del sequence[segment.length :]
            elif isinstance(segment, Sample):
                outcome = self._written(segment, sequence)
                sequence += [*outcome.tokens, *([END] if outcome.reason == "stop" else [])]
            elif isinstance(segment, Queries):
                texts = [_text([*sequence, *query.tokens]) for query in segment.queries]
                outcome = tuple(Reply(index=None, log_probs=self.prefers(text)) for text in texts)

    def _written(self, sample: Sample, sequence: Sequence[int]) -> Written:
        self.written += 1
        tokens = _ids(self.says(_text(sequence), sample.salt))
        if len(tokens) >= sample.limit:
            return Written(tokens=tuple(tokens[: sample.limit]), reason="limit")
        return Written(tokens=tuple(tokens), reason="stop", stop_token=END)


def _ids(text: str) -> list[int]:
    return [END if char == "|" else ord(char) for char in text]


def _text(tokens: Sequence[int]) -> str:
    return "".join("|" if token == END else chr(token) for token in tokens)
