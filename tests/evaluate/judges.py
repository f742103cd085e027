"""Scripted judges, and rows for them to judge."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from mlx_suite.engine.chat_model import Response
from mlx_suite.evaluate.answered import Answered
from mlx_suite.text import Message


def asked(question: str, answer: str, reference: str | None = None, place: str = "") -> Answered:
    return Answered(question=(Message("user", question),), answer=answer, reference=reference, place=place)


class WritingJudge:
    """Replies with `reply(prompt)`, in reverse order, because replies may arrive in any order."""

    def __init__(self, reply: Callable[[str], str], reason: str = "stop") -> None:
        self.reply, self.reason = reply, reason
        self.seen: list[str] = []

    def respond(self, questions: Iterable[Sequence[Message]], limit: int) -> Iterator[tuple[int, Response]]:
        self.seen = [turns[-1].content for turns in questions]
        for number in reversed(range(len(self.seen))):
            yield number, Response(text=self.reply(self.seen[number]), reason=self.reason)


class WeighingJudge:
    """Returns `weigh(first response, second response)` as the log-probabilities of the two labels."""

    def __init__(self, weigh: Callable[[str, str], tuple[float, float] | None]) -> None:
        self.weigh = weigh

    def preferences(self, questions: Iterable[Sequence[Message]], labels: Sequence[str]) -> Iterator[Any]:
        assert tuple(labels) == ("A", "B")
        for number, turns in enumerate(questions):
            text = turns[-1].content
            found = re.search(r"### Answer A\n(.*)\n\n### Answer B\n(.*)\n\nWhich", text, re.DOTALL)
            assert found is not None, text
            weights = self.weigh(found[1], found[2])
            yield number, weights
