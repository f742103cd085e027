"""What the microworld's checker says of questions and answers, for data that are about that world."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mlx_suite.text import Message
from mlx_suite.text.message import USER


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """Counts of answers."""

    answers: int
    recognised: int
    """Those whose question is one of the world's tasks."""
    right: int

    @property
    def share(self) -> float:
        """Right ones among the recognised."""
        return self.right / max(self.recognised, 1)


def verdicts_on(answered: Sequence[tuple[Sequence[Message], str]]) -> Verdicts | None:
    """Check the last question of each conversation and the answer to it; None if the world knows none of them."""
    from mlx_suite.microworld import Verdict, check, make_world  # half a second, which other stages need not spend

    world = make_world()
    found = Counter(check(_question(turns), answer, world) for turns, answer in answered)
    recognised = found[Verdict.RIGHT] + found[Verdict.WRONG]
    if not recognised:
        return None
    return Verdicts(answers=len(answered), recognised=recognised, right=found[Verdict.RIGHT])


def _question(turns: Sequence[Message]) -> str:
    return next((turn.content for turn in reversed(turns) if turn.role == USER), "")
