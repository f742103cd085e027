"""Check responses with the microworld's checker or against a reference.

Undecidable responses are counted separately, never as wrong.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_suite.data.statistics import Interval, share_interval
from mlx_suite.evaluate.answered import Answered
from mlx_suite.microworld import Verdict, check, identify, make_world

TRUTHS = ("world", "reference")
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A response and the verdict on it."""

    row: Answered
    verdict: Verdict
    category: str = ""
    """Category of the microworld's task; empty for other instructions."""
    task: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The fields of a JSON line."""
        return {
            "place": self.row.place,
            "instruction": self.row.instruction,
            "reference": self.row.reference,
            "answer": self.row.answer,
            "verdict": self.verdict.value,
            "task": self.task,
        }


@dataclass(frozen=True, kw_only=True)
class ExactReport:
    """The verdicts on the responses of one file."""

    rows: tuple[Checked, ...]

    @property
    def counts(self) -> Mapping[Verdict, int]:
        return Counter(row.verdict for row in self.rows)

    @property
    def known(self) -> int:
        """Number of decided responses."""
        return self.counts[Verdict.RIGHT] + self.counts[Verdict.WRONG]

    @property
    def share(self) -> float | None:
        """Right responses as a share of the decided ones; None if none was decided."""
        return self.counts[Verdict.RIGHT] / self.known if self.known else None

    @property
    def interval(self) -> Interval | None:
        return share_interval(self.counts[Verdict.RIGHT], self.known)

    @property
    def cut_off(self) -> int:
        """Responses truncated by the token limit."""
        return sum(row.row.reason != "stop" for row in self.rows)

    def by(self, group: str) -> dict[str, tuple[int, int]]:
        """(right, decided) per `category` or `task`, in alphabetical order."""
        counts: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        for row in self.rows:
            name = getattr(row, group)
            if name and row.verdict is not Verdict.UNKNOWN:
                counts[name][0] += row.verdict is Verdict.RIGHT
                counts[name][1] += 1
        return {name: (right, asked) for name, (right, asked) in sorted(counts.items())}


def check_answers(rows: Sequence[Answered], truth: str = "world") -> ExactReport:
    """Check each response with `world`, the microworld's checker, or by equality with its `reference`.

    The checker looks at the last user turn only: the microworld's instructions need no context.
    """
    assert truth in TRUTHS, truth
    world = make_world()
    checked = []
    for row in rows:
        if truth == "reference":
            checked.append(Checked(row=row, verdict=_against_reference(row)))
            continue
        found = identify(row.instruction)
        task = found[0] if found else None
        checked.append(
            Checked(
                row=row,
                verdict=check(row.instruction, row.answer, world),
                category=task.category if task else "",
                task=task.name if task else "",
            )
        )
    return ExactReport(rows=tuple(checked))


def normalised(text: str) -> str:
    """The text after NFKC, without case, repeated whitespace, surrounding quotes and a final full stop."""
    folded = _SPACE.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()
    return folded.strip("\"'“”‘’«»` ").rstrip(".!。 ").strip("\"'“”‘’«»` ")


def _against_reference(row: Answered) -> Verdict:
    if row.reference is None:
        return Verdict.UNKNOWN
    return Verdict.RIGHT if normalised(row.answer) == normalised(row.reference) else Verdict.WRONG
