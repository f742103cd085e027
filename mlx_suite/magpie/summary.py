"""What a run has come to: the yield, what was lost on the way, the speed, and how much of it is true."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from mlx_suite.engine import Counts
from mlx_suite.magpie.dataset import ACCEPTED_FILE, REJECTED_FILE, Dataset
from mlx_suite.magpie.record import Record, answer_of, instruction_of
from mlx_suite.runtime.journal import read_journal

FIRST_LOOK = 50
"""Accepted rows among which at least one must be the microworld's before all are checked."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What the microworld's checker says about the accepted rows."""

    rows: int
    recognised: int
    """Rows whose instruction is one of the world's tasks; nothing is known about the others."""
    right: int
    """Rows whose answer is right."""

    @property
    def share(self) -> float:
        """Right rows among all accepted ones, recognised or not."""
        return self.right / max(self.rows, 1)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What this run did; a folder that was continued holds more."""

    rows: int
    """Rows accepted."""
    seconds: float
    """From the first token to the last decision, loading the model not included."""
    counts: Counts
    """What the engine did, rows that were begun and not needed included."""

    @property
    def rows_per_second(self) -> float:
        """Accepted rows per second."""
        return self.rows / max(self.seconds, 1e-9)

    @property
    def tokens_per_second(self) -> float:
        """Tokens written per second."""
        return self.counts.sampled / max(self.seconds, 1e-9)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "rows": self.rows,
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(self.rows_per_second, 3),
            "tokens_per_second": round(self.tokens_per_second, 1),
            "slots_busy": round(self.counts.busy, 4),
            "tokens": {"prefilled": self.counts.prefilled, "fed": self.counts.ridden, "sampled": self.counts.sampled},
        }


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The state of a folder at the end of a run."""

    folder: Path
    asked: int
    """Rows decided."""
    accepted: int
    rejections: Mapping[str, int]
    """Rejected rows by reason (`screen.REASONS`), the most frequent first."""
    instruction_tokens: int
    """Of all accepted rows, stop tokens not counted."""
    answer_tokens: int
    work: Work | None
    """None where all rows had been there before."""
    truth: Truth | None
    """None for rows that are not about the microworld."""

    @property
    def accepted_file(self) -> Path:
        """The rows."""
        return self.folder / ACCEPTED_FILE

    @property
    def rejected_file(self) -> Path:
        """The rows that were left out, and why."""
        return self.folder / REJECTED_FILE

    def records(self) -> Iterator[Record]:
        """The accepted rows."""
        return read_journal(self.accepted_file)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        truth = self.truth
        return {
            "folder": str(self.folder),
            "accepted_file": str(self.accepted_file),
            "rejected_file": str(self.rejected_file),
            "asked": self.asked,
            "accepted": self.accepted,
            "yield": round(self.accepted / max(self.asked, 1), 4),
            "rejected": dict(self.rejections),
            "instruction_tokens": self.instruction_tokens,
            "answer_tokens": self.answer_tokens,
            "run": None if self.work is None else self.work.as_dict(),
            "confirmed": None if truth is None else {**asdict(truth), "share": round(truth.share, 4)},
        }


def summarise(folder: Path, dataset: Dataset, work: Work | None) -> Summary:
    """Read the accepted rows once and count."""
    records = list(read_journal(folder / ACCEPTED_FILE))
    return Summary(
        folder=folder,
        asked=dataset.asked,
        accepted=len(dataset.accepted),
        rejections=dict(dataset.rejections.most_common()),
        instruction_tokens=sum(record["instruction_tokens"] for record in records),
        answer_tokens=sum(record["answer_tokens"] for record in records),
        work=work,
        truth=examine_truth(records),
    )


def examine_truth(records: Iterable[Record]) -> Truth | None:
    """Let the microworld judge the rows; None if it recognises none of the first ones."""
    from mlx_suite.microworld import Verdict, check, make_world  # half a second, which other models need not spend

    rows = iter(records)
    first = list(islice(rows, FIRST_LOOK))
    world = make_world()
    verdicts = [check(instruction_of(row), answer_of(row), world) for row in first]
    if all(verdict is Verdict.UNKNOWN for verdict in verdicts):
        return None
    verdicts += [check(instruction_of(row), answer_of(row), world) for row in rows]
    return Truth(
        rows=len(verdicts),
        recognised=sum(verdict is not Verdict.UNKNOWN for verdict in verdicts),
        right=sum(verdict is Verdict.RIGHT for verdict in verdicts),
    )
