"""The folder of a run: manifest.json, drafts.jsonl, accepted.jsonl, rejected.jsonl, embeddings.npy.

What the model writes goes to drafts.jsonl at once, in the order in which rows are finished. Decisions follow in the
order of the rows' numbers, and each adds a line to one of two journals. Everything but drafts.jsonl can be made again
from it: that is what happens when the settings that judge have changed, or a line is missing.
"""

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from mlx_suite.curation.dataset import DRAFTS_FILE, EMBEDDINGS_FILE, MANIFEST_FILE, REJECTED_FILE, texts_of
from mlx_suite.curation.reasons import REASONS
from mlx_suite.data.read.sources import ACCEPTED_FILE
from mlx_suite.magpie.decide import Judge, Verdict
from mlx_suite.magpie.draft import Draft
from mlx_suite.magpie.drafts import draft_line, read_drafts
from mlx_suite.magpie.fingerprint import Fingerprint
from mlx_suite.magpie.gather import gather_drafts
from mlx_suite.magpie.manifest import (
    begun,
    check_manifest,
    file_digest,
    judged_by,
    read_manifest,
    store_manifest,
)
from mlx_suite.magpie.prospects import Prospects
from mlx_suite.magpie.record import Record, Recorder
from mlx_suite.magpie.row import Plan
from mlx_suite.magpie.tally import Session, Tally
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import disk_errors, write_atomically
from mlx_suite.runtime.journal import Journal, read_journal
from mlx_suite.runtime.lock import folder_lock
from mlx_suite.text.message import USER


class Dataset:
    """The rows decided so far, the drafts that wait for it, and the journals. Made by `open_dataset`."""

    def __init__(self, folder: Path, plan: Plan, fingerprint: Fingerprint) -> None:
        self.folder, self.plan = folder, plan
        self.recorder = Recorder(plan=plan, fingerprint=fingerprint.value)
        self.judge = Judge(plan)
        self.prospects = Prospects(self.judge)
        self.tally = Tally(quotas=self.judge.quotas.quotas)
        self.waiting: dict[int, Draft] = {}
        """Finished rows that are not decided, as the folder held them when it was opened."""
        self.sessions: list[Session] = []
        """What has been spent on the folder."""
        self._journals: dict[str, Journal] = {}

    @property
    def asked(self) -> int:
        """Rows that are decided: all those of lower number."""
        return self.prospects.asked

    @property
    def accepted(self) -> int:
        """Rows that are accepted."""
        return len(self.judge.keys)

    @property
    def is_full(self) -> bool:
        """Whether all rows that were wanted are there."""
        return self.accepted >= self.plan.settings.count

    def log(self, draft: Draft) -> None:
        """Keep what the model wrote."""
        self._journals[DRAFTS_FILE].append(draft_line(draft))

    def write(self, draft: Draft, verdict: Verdict) -> None:
        """Keep a decision that the judge has made."""
        record = self._noted(draft, verdict)
        self._journals[ACCEPTED_FILE if verdict.reason is None else REJECTED_FILE].append(record)

    def flush(self) -> None:
        """Put the lines on the disk, where other machines can see them."""
        for journal in self._journals.values():
            journal.sync()

    def _noted(self, draft: Draft, verdict: Verdict) -> Record:
        """Count a decision; returns its record."""
        record = self.recorder.record(draft, verdict)
        self.prospects.decided(draft, verdict)
        self.tally.decided(record)
        return record

    # ---- what the folder held

    def take_in(self, drafts: dict[int, Draft]) -> bool:
        """Take over the decisions that the journals hold; False, and nothing is, where they have gaps."""
        decided: dict[int, tuple[Path, int, Record]] = {}
        for name in (ACCEPTED_FILE, REJECTED_FILE):
            for number, record in _numbered(self.folder / name):
                decided[self._index(record, name, number, decided)] = self.folder / name, number, record
        if any(index not in decided or index not in drafts for index in range(len(decided))):
            return False
        for index in range(len(decided)):
            path, number, record = decided[index]
            draft, reason = drafts.pop(index), record.get("rejection")
            verdict = Verdict(reason=reason)
            made = self.recorder.record(draft, verdict)
            if any(record.get(name) != value for name, value in made.items()):
                raise UserError(
                    f"Line {number} does not say what the model wrote",
                    where=f"{path}:{number}",
                    fix=f"take that line out: it is made again from {DRAFTS_FILE}",
                )
            self.judge.settle(draft, verdict)
            self.prospects.decided(draft, verdict)
            self.tally.decided(record)
        self.waiting = drafts
        return True

    def judge_again(self, drafts: dict[int, Draft]) -> None:
        """Decide all rows anew, as far as the drafts go without a gap, and rewrite both files."""
        lines: dict[str, list[bytes]] = {ACCEPTED_FILE: [], REJECTED_FILE: []}
        for index in count():
            verdict = self.judge.decide(drafts[index]) if index in drafts and not self.is_full else None
            if verdict is None:
                break
            name = ACCEPTED_FILE if verdict.reason is None else REJECTED_FILE
            lines[name].append(_line(self._noted(drafts.pop(index), verdict)))
        for name, each in lines.items():
            write_atomically(self.folder / name, b"".join(each))
        self.waiting = drafts

    def _index(self, record: Record, name: str, number: int, decided: Mapping[int, Any]) -> int:
        """The number of a record's row."""
        try:
            index = int(record["index"])
            texts_of(record, USER)[0]  # raises for an object without an instruction
            known = name == ACCEPTED_FILE or record["rejection"] in REASONS
            problem = "repeats a row" if index in decided else None if known else "is no row of this program"
        except (LookupError, TypeError, ValueError, AttributeError):
            problem = "is no row of this program"
        if problem:
            raise UserError(
                f"Line {number} {problem}",
                where=f"{self.folder / name}:{number}",
                fix="take that line out; a row that is missing is made again",
            )
        return index

    # ---- opening and leaving

    def open_journals(self, stack: ExitStack) -> None:
        """Hold the files for appending until the stack is left."""
        for name in (DRAFTS_FILE, ACCEPTED_FILE, REJECTED_FILE):
            self._journals[name] = stack.enter_context(Journal(self.folder / name))

    def write_embeddings(self) -> None:
        """The vectors of the accepted rows, if they are kept and the file does not hold them."""
        if self.judge.neighbours is None or len(self.judge.neighbours) != self.accepted:
            return
        buffer = io.BytesIO()
        np.save(buffer, self.judge.neighbours.matrix)
        path = self.folder / EMBEDDINGS_FILE
        if not path.is_file() or path.read_bytes() != buffer.getvalue():
            write_atomically(path, buffer.getvalue())

    def forget_embeddings(self) -> None:
        """Rows are coming: what a killed run leaves must not be taken for theirs."""
        (self.folder / EMBEDDINGS_FILE).unlink(missing_ok=True)

    def account(self) -> dict[str, Any]:
        """What the manifest says about the rows when the folder is left."""
        names = (ACCEPTED_FILE, REJECTED_FILE, EMBEDDINGS_FILE)
        digests = {name: file_digest(self.folder / name) for name in names}
        return {
            "work": [session.as_dict() for session in self.sessions],
            "counts": self.tally.as_dict(),
            "seconds": self.tally.seconds(self.sessions),
            "files": {name: digest for name, digest in digests.items() if digest is not None},
        }


@contextmanager
def open_dataset(folder: Path, plan: Plan, fingerprint: Fingerprint) -> Iterator[Dataset]:
    """Open the folder of a run for this process alone; it is made if it is not there.

    Raises UserError for a folder that something else has made or other settings have begun, that holds more rows than
    are wanted, that is in use, that has been edited, or that cannot be written.
    """
    with disk_errors(folder), folder_lock(folder):
        stored = read_manifest(folder)
        rows = _accepted_rows(folder)
        if stored is None and rows is not None:
            raise UserError(
                f"The folder holds rows, and no {MANIFEST_FILE} that says how they were made",
                where=str(folder),
                fix=f"bring {MANIFEST_FILE} back, or choose another folder with --out",
            )
        if stored is not None:
            check_manifest(folder, stored, plan, fingerprint)
        if rows is not None and rows > plan.settings.count:
            raise UserError(
                f"The folder holds {rows} accepted rows already, more than the {plan.settings.count} asked for",
                where=str(folder),
                fix=f"ask for --count {rows} or more, or choose another folder with --out",
            )
        dataset = Dataset(folder, plan, fingerprint)
        dataset.sessions = [Session.of(each) for each in (stored or {}).get("work", ())]
        gather_drafts(folder)
        drafts = read_drafts(folder)
        content = begun(plan, fingerprint, stored)
        if stored is not None:
            if rows is not None and not drafts:
                raise UserError(
                    f"The folder holds rows, and no {DRAFTS_FILE} that they were made of",
                    where=str(folder),
                    fix=f"bring {DRAFTS_FILE} back, or choose another folder with --out",
                )
            same = stored.get("judged_by") == judged_by(plan)
            if not same or not dataset.take_in(drafts):
                undecided = {**stored, "judged_by": None}
                store_manifest(folder, undecided, stored)
                dataset.judge_again(drafts)
                stored = undecided
        store_manifest(folder, content, stored)
        with ExitStack() as stack:
            dataset.open_journals(stack)
            try:
                yield dataset
            finally:
                dataset.write_embeddings()
                before = read_manifest(folder)
                store_manifest(folder, content | dataset.account(), before)


def _numbered(path: Path) -> Iterator[tuple[int, Record]]:
    return enumerate(read_journal(path), start=1) if path.exists() else iter(())


def _accepted_rows(folder: Path) -> int | None:
    """Accepted rows of a folder; None where it has no rows at all, rejected ones included."""
    paths = [folder / ACCEPTED_FILE, folder / REJECTED_FILE]
    if not any(path.exists() and path.stat().st_size for path in paths):
        return None
    return sum(1 for _ in _numbered(paths[0]))


def _line(record: Record) -> bytes:
    try:
        return json.dumps(record, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # a lone surrogate, as in a journal
        return json.dumps(record).encode() + b"\n"
