"""Run folder: manifest.json, drafts.jsonl, accepted.jsonl, rejected.jsonl, embeddings.npy.

Each finished row is appended to drafts.jsonl immediately, in the order in which rows finish. Rows are decided in the
order of their numbers, and each decision appends a line to one of the two row files. Everything but drafts.jsonl can be
rebuilt from it, which happens if the settings that judge rows have changed or a line is missing.
"""

import io
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from mlx_suite.curation.dataset import (
    DRAFTS_FILE,
    EMBEDDINGS_FILE,
    MANIFEST_FILE,
    REJECTED_FILE,
    texts_of,
    write_rows,
)
from mlx_suite.curation.reasons import REASONS
from mlx_suite.data.read.sources import ACCEPTED_FILE
from mlx_suite.magpie.judge import Judge
from mlx_suite.magpie.manifest import (
    Fingerprint,
    check_manifest,
    file_digest,
    judged_by,
    new_manifest,
    read_manifest,
    store_manifest,
)
from mlx_suite.magpie.plan import RowPlan
from mlx_suite.magpie.records import Decision, Draft, Record, Recorder, draft_line, read_drafts
from mlx_suite.magpie.scheduler import StopRule
from mlx_suite.magpie.stats import Session, Tally
from mlx_suite.magpie.workers import absorb_drafts
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import disk_errors, write_atomically
from mlx_suite.runtime.journal import Journal, read_journal
from mlx_suite.runtime.lock import folder_lock
from mlx_suite.text.message import USER


class RunFolder:
    """The decided rows, the drafts waiting for a decision, and the open files. Made by `open_run_folder`."""

    def __init__(self, folder: Path, plan: RowPlan, fingerprint: Fingerprint) -> None:
        self.folder, self.plan = folder, plan
        self.recorder = Recorder(plan=plan, fingerprint=fingerprint.value)
        self.judge = Judge(plan)
        self.stop_rule = StopRule(self.judge)
        self.tally = Tally(quotas=self.judge.quotas.quotas)
        self.waiting: dict[int, Draft] = {}
        """Undecided drafts that the folder held when it was opened."""
        self.sessions: list[Session] = []
        """Recorded sessions of work on the folder."""
        self._journals: dict[str, Journal] = {}

    @property
    def decided(self) -> int:
        """Number of decided rows, and so the number of the first undecided one."""
        return self.stop_rule.decided

    @property
    def accepted(self) -> int:
        """Number of accepted rows."""
        return len(self.judge.keys)

    @property
    def is_complete(self) -> bool:
        """Whether the folder holds as many accepted rows as requested."""
        return self.accepted >= self.plan.settings.count

    def log(self, draft: Draft) -> None:
        """Append a finished row to drafts.jsonl."""
        self._journals[DRAFTS_FILE].append(draft_line(draft))

    def write(self, draft: Draft, decision: Decision) -> None:
        """Append a decided row to accepted.jsonl or rejected.jsonl."""
        self._journals[_file_of(decision)].append(self._recorded(draft, decision))

    def accepted_rows(self) -> Iterator[Record]:
        """The accepted rows, read from disk."""
        return read_journal(self.folder / ACCEPTED_FILE)

    def flush(self) -> None:
        """Sync all files to disk, where other machines can see them."""
        for journal in self._journals.values():
            journal.sync()

    def _recorded(self, draft: Draft, decision: Decision) -> Record:
        """Count a decision; returns the row's record."""
        record = self.recorder.record(draft, decision)
        self.stop_rule.record(draft, decision)
        self.tally.add(record)
        return record

    # ---- resuming

    def restore(self, drafts: dict[int, Draft]) -> bool:
        """Restore the decisions from the row files; returns False, changing nothing, if rows are missing.

        Raises UserError for a line that does not match its draft.
        """
        decided: dict[int, tuple[Path, int, Record]] = {}
        for name in (ACCEPTED_FILE, REJECTED_FILE):
            for number, record in _numbered(self.folder / name):
                decided[self._index(record, name, number, decided)] = self.folder / name, number, record
        if any(index not in decided or index not in drafts for index in range(len(decided))):
            return False
        for index in range(len(decided)):
            path, number, record = decided[index]
            draft, decision = drafts.pop(index), Decision(reason=record.get("rejection"))
            made = self.recorder.record(draft, decision)
            if any(record.get(name) != value for name, value in made.items()):
                raise UserError(
                    f"Line {number} does not match what the model wrote",
                    where=f"{path}:{number}",
                    fix=f"delete that line: it will be rebuilt from {DRAFTS_FILE}",
                )
            self.judge.record(draft, decision)
            self.stop_rule.record(draft, decision)
            self.tally.add(record)
        self.waiting = drafts
        return True

    def judge_again(self, drafts: dict[int, Draft]) -> None:
        """Decide all rows again, up to the first missing draft, and rewrite both row files."""
        rows: dict[str, list[Record]] = {ACCEPTED_FILE: [], REJECTED_FILE: []}
        for index in count():
            decision = self.judge.decide(drafts[index]) if index in drafts and not self.is_complete else None
            if decision is None:
                break
            rows[_file_of(decision)].append(self._recorded(drafts.pop(index), decision))
        for name, records in rows.items():
            write_rows(self.folder / name, records)
        self.waiting = drafts

    def _index(self, record: Record, name: str, number: int, decided: Mapping[int, Any]) -> int:
        """The row number of a record. Raises UserError for a line that is not a row or repeats one."""
        try:
            index = int(record["index"])
            texts_of(record, USER)[0]  # raises for an object without an instruction
            is_row = name == ACCEPTED_FILE or record["rejection"] in REASONS
            problem = "repeats a row" if index in decided else None if is_row else "is not a Magpie row"
        except (LookupError, TypeError, ValueError, AttributeError):
            problem = "is not a Magpie row"
        if problem:
            raise UserError(
                f"Line {number} {problem}",
                where=f"{self.folder / name}:{number}",
                fix="delete that line; a missing row will be rebuilt",
            )
        return index

    # ---- opening and closing

    def open_journals(self, stack: ExitStack) -> None:
        """Open the files for appending until the stack is closed."""
        for name in (DRAFTS_FILE, ACCEPTED_FILE, REJECTED_FILE):
            self._journals[name] = stack.enter_context(Journal(self.folder / name))

    def write_embeddings(self) -> None:
        """Write the embeddings of the accepted rows, if they are stored and the file differs."""
        if self.judge.neighbours is None or len(self.judge.neighbours) != self.accepted:
            return
        buffer = io.BytesIO()
        np.save(buffer, self.judge.neighbours.matrix)
        path = self.folder / EMBEDDINGS_FILE
        if not path.is_file() or path.read_bytes() != buffer.getvalue():
            write_atomically(path, buffer.getvalue())

    def delete_embeddings(self) -> None:
        """Delete the embeddings before new rows are added, so that a kill cannot leave stale ones."""
        (self.folder / EMBEDDINGS_FILE).unlink(missing_ok=True)

    def account(self) -> dict[str, Any]:
        """Manifest entries about the rows, stored when the folder is closed."""
        names = (ACCEPTED_FILE, REJECTED_FILE, EMBEDDINGS_FILE)
        digests = {name: file_digest(self.folder / name) for name in names}
        return {
            "work": [session.as_dict() for session in self.sessions],
            "counts": self.tally.as_dict(),
            "seconds": self.tally.seconds(self.sessions),
            "files": {name: digest for name, digest in digests.items() if digest is not None},
        }


@contextmanager
def open_run_folder(folder: Path, plan: RowPlan, fingerprint: Fingerprint) -> Iterator[RunFolder]:
    """Open a run folder for this process only, creating it if missing.

    Raises UserError if the folder holds a model, was made by another program or with other settings, holds more rows
    than requested, is in use, has been edited, or cannot be written.
    """
    _refuse_model(folder)
    with disk_errors(folder), folder_lock(folder):
        stored, rows = read_manifest(folder), _accepted_rows(folder)
        if stored is None and rows is not None:
            raise _missing_file(folder, MANIFEST_FILE)
        if stored is not None:
            check_manifest(folder, stored, plan, fingerprint)
        if rows is not None and rows > plan.settings.count:
            raise UserError(
                f"The folder already holds {rows} accepted rows, more than the {plan.settings.count} requested",
                where=str(folder),
                fix=f"use --count {rows} or more, or choose another folder with --out",
            )
        run_folder = RunFolder(folder, plan, fingerprint)
        run_folder.sessions = [Session.of(each) for each in (stored or {}).get("work", ())]
        absorb_drafts(folder)
        drafts = read_drafts(folder)
        content = new_manifest(plan, fingerprint, stored)
        if stored is not None:
            if rows is not None and not drafts:
                raise _missing_file(folder, DRAFTS_FILE)
            is_same_policy = stored.get("judged_by") == judged_by(plan)
            if not is_same_policy or not run_folder.restore(drafts):
                undecided = {**stored, "judged_by": None}
                store_manifest(folder, undecided, stored)
                run_folder.judge_again(drafts)
                stored = undecided
        store_manifest(folder, content, stored)
        with ExitStack() as stack:
            run_folder.open_journals(stack)
            try:
                yield run_folder
            finally:
                run_folder.write_embeddings()
                before = read_manifest(folder)
                store_manifest(folder, content | run_folder.account(), before)


def _refuse_model(folder: Path) -> None:
    """Raise UserError for the folder of a model or an adapter, into which no rows belong."""
    configs = [name for name in ("config.json", "adapter_config.json") if (folder / name).is_file()]
    if configs and not (folder / MANIFEST_FILE).exists():
        raise UserError(
            f"The folder holds a model: there is a {configs[0]}",
            where=f"--out {folder}",
            fix="choose another folder for the rows",
        )


def _file_of(decision: Decision) -> str:
    return ACCEPTED_FILE if decision.reason is None else REJECTED_FILE


def _numbered(path: Path) -> Iterator[tuple[int, Record]]:
    return enumerate(read_journal(path), start=1) if path.exists() else iter(())


def _accepted_rows(folder: Path) -> int | None:
    """Number of accepted rows in a folder; None if it has no rows at all, accepted or rejected."""
    paths = [folder / ACCEPTED_FILE, folder / REJECTED_FILE]
    if not any(path.exists() and path.stat().st_size for path in paths):
        return None
    return sum(1 for _ in _numbered(paths[0]))


def _missing_file(folder: Path, name: str) -> UserError:
    return UserError(
        f"The folder holds rows, but not the {name} they were made with",
        where=str(folder),
        fix=f"restore {name}, or choose another folder with --out",
    )
