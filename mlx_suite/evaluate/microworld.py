"""Responses checked against the microworld, whose truth is known."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from mlx_suite.text import Message
from mlx_suite.text.message import ASSISTANT, USER

PROBE = 50
"""Rows of a dataset among which the world must recognise at least one before all are checked."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What the microworld's checker says about instructions and their responses."""

    answers: int
    """Responses checked."""
    recognised: int
    """Those to one of the world's tasks. Nothing is known about the others."""
    right: int

    @property
    def share(self) -> float:
        """Right responses as a share of all, recognised or not."""
        return self.right / max(self.answers, 1)

    @property
    def share_of_recognised(self) -> float:
        """Right responses as a share of the recognised ones."""
        return self.right / max(self.recognised, 1)


def check_dataset(records: Iterable[Mapping[str, Any]]) -> Truth | None:
    """Check the first exchange of each record; None if the world recognises none of the first `PROBE`."""
    exchanges = ((_first(record, USER), _first(record, ASSISTANT)) for record in records)
    probe = list(islice(exchanges, PROBE))
    if _check(probe) is None:
        return None
    return _check([*probe, *exchanges])


def check_responses(responses: Sequence[tuple[Sequence[Message], str]]) -> Truth | None:
    """Check each response to the last user turn of a conversation; None if the world recognises none."""
    return _check([(_last_instruction(turns), response) for turns, response in responses])


def _check(exchanges: Sequence[tuple[str, str]]) -> Truth | None:
    from mlx_suite.microworld import Verdict, check, make_world  # takes half a second, which other data need not pay

    world = make_world()
    verdicts = Counter(check(instruction, response, world) for instruction, response in exchanges)
    recognised = verdicts[Verdict.RIGHT] + verdicts[Verdict.WRONG]
    if not recognised:
        return None
    return Truth(answers=len(exchanges), recognised=recognised, right=verdicts[Verdict.RIGHT])


def _first(record: Mapping[str, Any], role: str) -> str:
    return next(str(turn["content"]) for turn in record["messages"] if turn["role"] == role)


def _last_instruction(turns: Sequence[Message]) -> str:
    return next((turn.content for turn in reversed(turns) if turn.role == USER), "")
