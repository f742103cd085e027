"""A Magpie session on disk: one JSON line for everything that happened, appended immediately.

    {"session": {"model": "tiny-llama3", "temperature": 1.0, "category": null, "max_answer": 1024, "seed": 7},
     "created": "2026-11-28T12:16:25+00:00"}
    {"rows": 20}                                             rows to ask, after a start or a continuation
    {"draft": {…}, "reason": null, "duplicate_of": null, "complete": true}
    {"verdict": "reject", "index": 3}                        null takes a verdict back

A draft is written as in a run folder's `drafts.jsonl`. Rows in flight are not in the file; they are asked again.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mlx_suite.magpie.records import Decision, draft_line, draft_of
from mlx_suite.magpie.settings import MagpieSettings
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.journal import Journal, read_lines

from .magpie_row import MagpieRow, Verdict

NO_END = 1_000_000
"""`MagpieSettings.count` of a session, which ends after a number of rows asked and not of rows accepted."""
SYNC_SECONDS = 5.0
"""At most this many seconds of rows are lost in a power cut; a kill loses none."""


@dataclass(frozen=True, kw_only=True)
class SessionSettings:
    """What a session asks for."""

    model: str
    """Name of a served model or adapter."""
    temperature: float = 1.0
    """Sampling temperature of instructions."""
    category: str | None = None
    """Category to which the model is steered; instructions tagged otherwise are rejected. None: any."""
    max_answer: int = 1024
    """Maximum tokens of a response."""
    seed: int = 0

    def magpie(self) -> MagpieSettings:
        """The settings of a run. Raises UserError listing every invalid value."""
        return MagpieSettings(
            count=NO_END,
            seed=self.seed,
            temperature=self.temperature,
            max_answer=self.max_answer,
            quotas=() if self.category is None else (f"category:{self.category}=1",),
            embeddings=False,
            model_name=self.model,
        )


@dataclass(kw_only=True)
class StoredSession:
    """The content of a session's file."""

    settings: SessionSettings
    created: str
    """Time in ISO 8601, UTC."""
    target: int = 0
    """Rows to ask."""
    rows: dict[int, MagpieRow] = field(default_factory=dict)
    """Decided rows by number."""


class SessionFile:
    """The file of one session. It is locked from the first write on, so that two servers do not both write to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._journal: Journal | None = None

    def read(self) -> StoredSession:
        """The session as written so far. Raises UserError for a file that is not a session's."""
        records = read_lines(self.path, dict)
        first = next(records, {})
        try:
            stored = StoredSession(settings=SessionSettings(**first["session"]), created=str(first["created"]))
            for record in records:
                _apply(stored, record)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                "The file is not a Magpie session of this program", where=str(self.path), fix="move it elsewhere"
            ) from error
        return stored

    def begin(self, settings: SessionSettings, created: str) -> None:
        """Write the first line of a new session."""
        self._append({"session": asdict(settings), "created": created})

    def extend(self, target: int) -> None:
        """Note how many rows are to be asked."""
        self._append({"rows": target})

    def add(self, row: MagpieRow) -> None:
        """Append a decided row."""
        assert row.draft is not None, "a row in flight"
        decision = {"reason": row.decision.reason, "duplicate_of": row.decision.duplicate_of}
        self._append({"draft": draft_line(row.draft), **decision, "complete": row.complete})

    def judge(self, index: int, verdict: Verdict | None) -> None:
        """Append a person's verdict."""
        self._append({"verdict": verdict, "index": index})

    def close(self) -> None:
        """Unlock the file; a later write locks it again."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def _append(self, record: Mapping[str, Any]) -> None:
        if self._journal is None:
            self._journal = Journal(self.path, sync_seconds=SYNC_SECONDS)
        self._journal.append(record)


def session_files(folder: Path) -> Iterator[Path]:
    """The files of all sessions, the newest first."""
    with suppress(FileNotFoundError):
        yield from sorted(folder.glob("*.jsonl"), reverse=True)


def _apply(stored: StoredSession, record: Mapping[str, Any]) -> None:
    if "draft" in record:
        draft = draft_of(record["draft"])
        row = stored.rows[draft.index] = MagpieRow(index=draft.index)
        decision = Decision(reason=record["reason"], duplicate_of=record["duplicate_of"])
        row.finish(draft, decision, complete=bool(record["complete"]))
    elif "verdict" in record:
        stored.rows[record["index"]].verdict = record["verdict"]
    else:
        stored.target = int(record["rows"])
