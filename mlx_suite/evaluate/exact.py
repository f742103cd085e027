"""Answers checked where the truth is known: by the microworld's checker, or against a reference.

What cannot be decided is counted apart, never as wrong.
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
    """One answer and whether it is right."""

    row: Answered
    verdict: Verdict
    category: str = ""
    """Of the microworld's task; empty for other instructions."""
    task: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For a line of JSON."""
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
    """The verdicts on one file."""

    rows: tuple[Checked, ...]

    @property
    def counts(self) -> Mapping[Verdict, int]:
        return Counter(row.verdict for row in self.rows)

    @property
    def known(self) -> int:
        """Rows that could be decided."""
        return self.counts[Verdict.RIGHT] + self.counts[Verdict.WRONG]

    @property
    def share(self) -> float | None:
        """Right answers among those that could be decided."""
        return self.counts[Verdict.RIGHT] / self.known if self.known else None

    @property
    def interval(self) -> Interval | None:
        return share_interval(self.counts[Verdict.RIGHT], self.known)

    @property
    def cut_off(self) -> int:
        """Answers that did not end by themselves."""
        return sum(row.row.reason != "stop" for row in self.rows)

    def by(self, group: str) -> dict[str, tuple[int, int]]:
        """Right and decided answers by `category` or `task`, in alphabetical order."""
        counts: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        for row in self.rows:
            name = getattr(row, group)
            if name and row.verdict is not Verdict.UNKNOWN:
                counts[name][0] += row.verdict is Verdict.RIGHT
                counts[name][1] += 1
        return {name: (right, asked) for name, (right, asked) in sorted(counts.items())}


def check_answers(rows: Sequence[Answered], truth: str = "world") -> ExactReport:
    """Decide each answer by `world`, the microworld's checker, or by `reference`, which must be the same text.

    The microworld's instructions stand for themselves: a conversation of several turns is decided by its last one.
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
    """The text without what says nothing: case, runs of whitespace, quotes around it, a stop at its end.

    Letters that Unicode counts as the same become the same (NFKC).
    """
    folded = _SPACE.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()
    return folded.strip("\"'“”‘’«»` ").rstrip(".!。 ").strip("\"'“”‘’«»` ")


def _against_reference(row: Answered) -> Verdict:
    if row.reference is None:
        return Verdict.UNKNOWN
    return Verdict.RIGHT if normalised(row.answer) == normalised(row.reference) else Verdict.WRONG
