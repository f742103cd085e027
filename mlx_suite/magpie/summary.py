"""What a run has come to: the yield, what was lost on the way, the speed, and how much of it is true."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from mlx_suite.curation.dataset import REJECTED_FILE, texts_of
from mlx_suite.curation.reasons import Stage
from mlx_suite.data.read.sources import ACCEPTED_FILE
from mlx_suite.magpie.dataset import Dataset
from mlx_suite.magpie.record import Record
from mlx_suite.magpie.tally import Session, Tally
from mlx_suite.runtime.journal import read_journal
from mlx_suite.text.message import ASSISTANT, USER

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
class Summary:
    """The state of a folder at the end of a run."""

    folder: Path
    tally: Tally
    """All rows that are decided."""
    sessions: tuple[Session, ...]
    """All work on the folder that is known of."""
    work: Session | None
    """What this run did. None where all rows had been there before."""
    truth: Truth | None
    """None for rows that are not about the microworld."""

    @property
    def asked(self) -> int:
        """Rows decided."""
        return self.tally.asked

    @property
    def accepted(self) -> int:
        """Rows accepted."""
        return self.tally.accepted

    @property
    def rejections(self) -> Mapping[str, int]:
        """Rejected rows by reason (`reasons.REASONS`), the most frequent first."""
        return dict(self.tally.rejections.most_common())

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

    @property
    def seconds(self) -> Mapping[Stage, float]:
        """Seconds by stage."""
        return self.tally.seconds(self.sessions)

    @property
    def rows_per_hour(self) -> float:
        """Accepted rows per hour of all work that is known of; 0 without any."""
        seconds = sum(session.seconds for session in self.sessions)
        rows = sum(session.rows for session in self.sessions)
        return 3600 * rows / seconds if seconds else 0.0

    @property
    def tokens_per_row(self) -> Mapping[str, float]:
        """Tokens of one accepted row: `sampled`, and `read` for those that were given, questions included."""
        rows = max(sum(session.rows for session in self.sessions), 1)
        sampled = sum(session.sampled for session in self.sessions)
        read = sum(each.prefilled + each.fed + each.screening + each.grading for each in self.sessions)
        return {"sampled": sampled / rows, "read": read / rows}

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        truth, tally = self.truth, self.tally.as_dict()
        return {
            "folder": str(self.folder),
            "accepted_file": str(self.accepted_file),
            "rejected_file": str(self.rejected_file),
            **tally,
            "yield": round(self.accepted / max(self.asked, 1), 4),
            "seconds": self.seconds,
            "accepted_rows_per_hour": round(self.rows_per_hour, 1),
            "tokens_per_accepted_row": {name: round(each, 1) for name, each in self.tokens_per_row.items()},
            "run": None if self.work is None else run_dict(self.work),
            "confirmed": None if truth is None else {**asdict(truth), "share": round(truth.share, 4)},
        }


def run_dict(work: Session) -> dict[str, Any]:
    """One run, for JSON."""
    seconds = max(work.seconds, 1e-9)
    return {
        "rows": work.rows,
        "seconds": round(work.seconds, 3),
        "rows_per_second": round(work.rows / seconds, 3),
        "tokens_per_second": round(work.sampled / seconds, 1),
        "slots_busy": round(work.busy, 4),
        "tokens": {
            "prefilled": work.prefilled,
            "fed": work.fed,
            "aside": work.screening + work.grading,
            "sampled": work.sampled,
        },
    }


def summarise(folder: Path, dataset: Dataset, work: Session | None) -> Summary:
    """Read the accepted rows once and count."""
    return Summary(
        folder=folder,
        tally=dataset.tally,
        sessions=tuple(dataset.sessions),
        work=work,
        truth=examine_truth(read_journal(folder / ACCEPTED_FILE)),
    )


def examine_truth(records: Iterable[Record]) -> Truth | None:
    """Let the microworld judge the rows; None if it recognises none of the first ones."""
    from mlx_suite.microworld import Verdict, check, make_world  # half a second, which other models need not spend

    rows = iter(records)
    first = list(islice(rows, FIRST_LOOK))
    world = make_world()
    verdicts = [check(texts_of(row, USER)[0], texts_of(row, ASSISTANT)[0], world) for row in first]
    if all(verdict is Verdict.UNKNOWN for verdict in verdicts):
        return None
    verdicts += [check(texts_of(row, USER)[0], texts_of(row, ASSISTANT)[0], world) for row in rows]
    return Truth(
        rows=len(verdicts),
        recognised=sum(verdict is not Verdict.UNKNOWN for verdict in verdicts),
        right=sum(verdict is Verdict.RIGHT for verdict in verdicts),
    )
