"""Workers of rank 1 or above: generate rows and follow rank 0's decisions on them.

A row's steering, and whether it may end early, depend on the decisions on earlier rows. Followers read these from
accepted.jsonl and rejected.jsonl and never make them: on another machine a cosine similarity may round to the other
side of a threshold.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mlx_suite.curation.dataset import REJECTED_FILE
from mlx_suite.data.questions import Questions
from mlx_suite.data.read.sources import ACCEPTED_FILE
from mlx_suite.magpie.judge import Judge
from mlx_suite.magpie.records import Decision, Draft, Record, Recorder, draft_line, drafts_name
from mlx_suite.magpie.run import OnNote, PreparedMagpie, prepare
from mlx_suite.magpie.scheduler import Pool
from mlx_suite.magpie.settings import MagpieSettings
from mlx_suite.magpie.shards import ElsewhereError, Over, Shards
from mlx_suite.magpie.tail import Tail
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.journal import Journal
from mlx_suite.text import ChatTemplate, Tokenizer
from mlx_suite.training.process_group import ProcessGroup

COMPARED = ("messages", "steer", "tags", "answer_reason")
"""Record fields that show whether a record was made from a given draft."""


def follow_dataset(
    model: Any,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    settings: MagpieSettings,
    folder: Path | str,
    group: ProcessGroup,
    questions: Questions | None = None,
    on_note: OnNote | None = None,
) -> None:
    """Generate this worker's rows of a folder that rank 0 fills with `make_dataset`, given the same arguments.

    Returns when rank 0 has all rows. Raises UserError for a problem in this worker only, or if rank 0 is gone and
    this is rank 1; ElsewhereError if another worker reports the problem.
    """
    folder = Path(folder)
    shards = Shards(group, folder)
    with prepare(model, tokenizer, template, settings, shards, questions, on_note) as prepared:
        shards.together(lambda: None)  # rank 0 opens the folder
        if shards.broadcast(0):
            return  # the folder is complete
        with ExitStack() as stack:
            name = folder / drafts_name(group.rank)
            journal = shards.together(lambda: stack.enter_context(Journal(name)))
            shards.barrier()
            stack.enter_context(shards.terminable())
            Follower(prepared, shards, journal).work()


class Follower:
    """A worker of rank 1 or above."""

    def __init__(self, prepared: PreparedMagpie, shards: Shards, journal: Journal) -> None:
        self.shards, self.journal = shards, journal
        self.slots = prepared.slots
        self.engine = prepared.engine()
        judge = Judge(prepared.plan)
        self.pool = Pool(judge, {}, next_index=0, is_own=shards.is_own)
        self.recorder = Recorder(plan=prepared.plan, fingerprint=prepared.fingerprint.value)
        self._decisions = [Tail(shards.folder / name) for name in (ACCEPTED_FILE, REJECTED_FILE)]
        self._drafts = [Tail(shards.folder / drafts_name(rank)) for rank in shards.others]
        self._decided: dict[int, Record] = {}
        """Decisions read but not applied yet."""
        self._retried: set[tuple[int, int]] = set()

    def work(self) -> None:
        """Generate rows until the run ends."""
        try:
            self.poll()
            while True:
                requests = self.shards.requests(self.pool.requests(), lambda: self.pool.lead, self.slots, self.poll)
                for done in self.engine.run(requests):
                    draft: Draft = done.result
                    self.journal.append(draft_line(draft))
                    self.pool.add(draft)
                self.journal.sync()  # on a network file system others see only what is flushed
                self._wait()
        except Over:
            return

    def poll(self) -> None:
        """Apply the other workers' drafts and decisions. Raises Over when the folder is complete."""
        board = self.shards.board
        if board.ended == "complete":
            raise Over
        if board.ended == "stopped":
            raise ElsewhereError
        # Read drafts after decisions: a decision is written after the draft it was made from.
        for tail in self._decisions:
            for _, record in tail.records():
                self._decided[record["index"]] = record
        for tail in self._drafts:
            for draft in tail.drafts():
                if draft.index >= self.pool.next_index:
                    self.pool.add(draft)
        while self._matches(self.pool.next_index):
            record = self._decided.pop(self.pool.next_index)
            self.pool.record(Decision(reason=record.get("rejection")))
            self.shards.heard()
        if board.again is not None and board.again not in self._retried:
            self._retried.add(board.again)
            self.pool.retry(board.again[0])

    def _matches(self, index: int) -> bool:
        """Whether a row is decided and its draft is the one decided on, not one generated again since."""
        record, draft = self._decided.get(index), self.pool.drafts.get(index)
        if record is None or draft is None:
            return False
        ours = self.recorder.record(draft, Decision(reason=record.get("rejection")))
        return _compared(ours) == _compared(record)

    def _wait(self) -> None:
        """Wait for decisions. If a worker is gone, let rank 0 report it, or rank 1 if rank 0 is gone."""
        try:
            self.shards.wait(self.poll)
        except UserError:
            if not self.shards.lost:
                raise
            while 0 not in self.shards.lost:
                self.shards.linger()
                self.poll()
            if self.shards.group.rank == 1:
                raise
            raise ElsewhereError from None


def _compared(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: record.get(name) for name in COMPARED}
