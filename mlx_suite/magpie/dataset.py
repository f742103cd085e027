"""The folder of a run: settings.json, accepted.jsonl, rejected.jsonl.

Rows are written in the order of their numbers, each to one of two append-only journals, as soon as they are decided.
What is written is never generated again, and what a killed run had not written comes out the same the next time.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from mlx_suite.magpie.fingerprint import SETTINGS_FILE, Fingerprint, check_settings, store_settings
from mlx_suite.magpie.record import Record, Recorder, instruction_of
from mlx_suite.magpie.row import Draft, Plan
from mlx_suite.magpie.screen import DUPLICATE, answer_problem, instruction_problem, key_of
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import disk_errors, write_atomically
from mlx_suite.runtime.journal import Journal, read_journal
from mlx_suite.runtime.lock import folder_lock

ACCEPTED_FILE = "accepted.jsonl"
REJECTED_FILE = "rejected.jsonl"


class Dataset:
    """The rows decided so far, and the two journals that hold them. Made by `open_dataset`."""

    def __init__(self, accepted: Journal, rejected: Journal, recorder: Recorder) -> None:
        self.recorder = recorder
        self.accepted: dict[bytes, int] = {}
        """The accepted rows by `key_of` their instruction."""
        self.rejections: Counter[str] = Counter()
        """Rejected rows by reason."""
        self.dry_spell: Counter[str] = Counter()
        """Rows rejected since the last accepted one, by reason."""
        self.in_order = True
        """Whether the journals are sorted: gaps that a power failure leaves are filled at their ends."""
        self._accepted, self._rejected = accepted, rejected
        self._decided: set[int] = set()
        self._read()

    @property
    def asked(self) -> int:
        """Rows that are decided."""
        return len(self._decided)

    def undecided(self) -> Iterator[int]:
        """The numbers of the rows to make, ascending, without end."""
        decided = frozenset(self._decided)
        return (index for index in count() if index not in decided)

    def decide(self, draft: Draft) -> None:
        """Accept or reject a row and write it. Rows must come in the order of their numbers."""
        plan, key = self.recorder.plan, key_of(draft.instruction)
        reason, twin = instruction_problem(plan, draft), None
        if reason is None and key in self.accepted:
            reason, twin = DUPLICATE, self.recorder.id_of(self.accepted[key])
        reason = reason or answer_problem(plan, draft)
        if reason is None:
            self._accepted.append(self.recorder.accepted(draft))
            self.accepted[key] = draft.index
            self.dry_spell.clear()
        else:
            self._rejected.append(self.recorder.rejected(draft, reason, duplicate_of=twin))
            self.rejections[reason] += 1
            self.dry_spell[reason] += 1
        self._decided.add(draft.index)

    def _read(self) -> None:
        """Take in what the journals hold."""
        last_accepted = -1
        for index, record in self._records(self._accepted):
            self.accepted[key_of(instruction_of(record))] = index
            last_accepted = max(index, last_accepted)
        for index, record in self._records(self._rejected):
            reason = str(record.get("rejection"))
            self.rejections[reason] += 1
            if index > last_accepted:
                self.dry_spell[reason] += 1
        if len(self._decided) <= max(self._decided, default=-1):
            self.in_order = False  # there are gaps to fill

    def _records(self, journal: Journal) -> Iterator[tuple[int, Record]]:
        """The rows of a journal by their numbers."""
        before = -1
        for number, record in enumerate(journal.records(), start=1):
            try:
                index = int(record["index"])
                instruction_of(record)
                problem = "repeats a row" if index in self._decided else None
            except (KeyError, TypeError, ValueError, StopIteration):
                problem = "is no row of this program"
            if problem:
                raise UserError(
                    f"Line {number} {problem}",
                    where=f"{journal.path}:{number}",
                    fix="take that line out; a row that is missing is made again",
                )
            self.in_order = self.in_order and index > before
            self._decided.add(index)
            before = index
            yield index, record


@contextmanager
def open_dataset(folder: Path, plan: Plan, fingerprint: Fingerprint) -> Iterator[Dataset]:
    """Open the folder of a run for this process alone; it is made if it is not there.

    Raises UserError for a folder that something else has made or other settings have begun, that holds more rows than
    are wanted, that is in use, or that cannot be written.
    """
    with disk_errors(folder), folder_lock(folder):
        stored = check_settings(folder, plan, fingerprint)
        journals = [folder / ACCEPTED_FILE, folder / REJECTED_FILE]
        if stored is None and any(path.exists() and path.stat().st_size for path in journals):
            raise UserError(
                f"The folder holds rows, and no {SETTINGS_FILE} that says how they were made",
                where=str(folder),
                fix=f"bring {SETTINGS_FILE} back, or choose another folder with --out",
            )
        with Journal(journals[0]) as accepted, Journal(journals[1]) as rejected:
            dataset = Dataset(accepted, rejected, Recorder(plan=plan, fingerprint=fingerprint.value))
            wanted, held = plan.settings.count, len(dataset.accepted)
            if held > wanted:
                raise UserError(
                    f"The folder holds {held} accepted rows already, more than the {wanted} asked for",
                    where=str(folder),
                    fix=f"ask for --count {held} or more, or choose another folder with --out",
                )
            store_settings(folder, plan, fingerprint, stored)
            yield dataset
        if not dataset.in_order:
            for path in journals:
                _sort(path)


def _sort(path: Path) -> None:
    """Put a journal in the order of its rows, whole or not at all."""
    # Lines are moved as they are: what another program has added to a record stays.
    lines = [line for line in path.read_bytes().splitlines(keepends=True) if line.strip()]
    order = sorted(range(len(lines)), key=[int(record["index"]) for record in read_journal(path)].__getitem__)
    write_atomically(path, b"".join(lines[place] for place in order))
