"""The processes of a run behind the first: they make rows, and read what has been decided about them.

What a row is steered to, and whether one need not go on, depends on the decisions about earlier rows. Those are taken
over from accepted.jsonl and rejected.jsonl, never made here: on another machine a cosine may round to the other side
of a threshold.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mlx_suite.curation.dataset import REJECTED_FILE
from mlx_suite.data.questions import Questions
from mlx_suite.data.read.sources import ACCEPTED_FILE
from mlx_suite.magpie.decide import Judge, Verdict
from mlx_suite.magpie.draft import Draft
from mlx_suite.magpie.drafts import draft_line, drafts_name
from mlx_suite.magpie.pool import Pool
from mlx_suite.magpie.prepare import OnNote, Prepared, prepare
from mlx_suite.magpie.record import Record, Recorder
from mlx_suite.magpie.settings import MagpieSettings
from mlx_suite.magpie.shards import ElsewhereError, Over, Shards
from mlx_suite.magpie.tail import Tail
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.journal import Journal
from mlx_suite.text import ChatTemplate, Tokenizer
from mlx_suite.training.peers import Peers

COMPARED = ("messages", "steer", "tags", "answer_reason")
"""Fields by which a draft is known as the one that a record was made of."""


def follow_dataset(
    model: Any,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    settings: MagpieSettings,
    folder: Path | str,
    peers: Peers,
    questions: Questions | None = None,
    on_note: OnNote | None = None,
) -> None:
    """Make this process's rows of a folder that the first process fills with `make_dataset`; arguments as there.

    Returns when that one has all the rows that are wanted. Raises UserError for what is wrong here alone, or where the
    first process is gone and this is the second; ElsewhereError where another process tells what is wrong.
    """
    folder = Path(folder)
    shards = Shards(peers, folder)
    with prepare(model, tokenizer, template, settings, shards, questions, on_note) as prepared:
        shards.together(lambda: None)  # the first opens the folder
        if shards.tell(0):
            return  # and it holds all that is wanted
        with ExitStack() as stack:
            name = folder / drafts_name(peers.rank)
            journal = shards.together(lambda: stack.enter_context(Journal(name)))
            shards.meet()
            stack.enter_context(shards.terminable())
            Follower(prepared, shards, journal).work()


class Follower:
    """One process behind the first, at work."""

    def __init__(self, prepared: Prepared, shards: Shards, journal: Journal) -> None:
        self.shards, self.journal = shards, journal
        self.slots = prepared.slots
        self.engine = prepared.engine()
        judge = Judge(prepared.plan)
        self.pool = Pool(judge, {}, following=0, mine=shards.mine)
        self.recorder = Recorder(plan=prepared.plan, fingerprint=prepared.fingerprint.value)
        self._decisions = [Tail(shards.folder / name) for name in (ACCEPTED_FILE, REJECTED_FILE)]
        self._drafts = [Tail(shards.folder / drafts_name(rank)) for rank in shards.others]
        self._decided: dict[int, Record] = {}
        """Decisions that have been read and not been taken over."""
        self._made_again: set[tuple[int, int]] = set()

    def work(self) -> None:
        """Make rows until the run has ended."""
        try:
            self.look()
            while True:
                requests = self.shards.requests(
                    self.pool.requests(), lambda: self.pool.ahead, self.slots, look=self.look
                )
                for done in self.engine.run(requests):
                    draft: Draft = done.result
                    self.journal.append(draft_line(draft))
                    self.pool.take(draft)
                self.journal.sync()  # a network file system shows the others what is flushed
                self._wait()
        except Over:
            return

    def look(self) -> None:
        """Take over what the others have made and decided. Raises Over when all rows are there."""
        board = self.shards.board
        if board.ended == "complete":
            raise Over
        if board.ended == "stopped":
            raise ElsewhereError
        # Drafts behind decisions: what a decision was made of is there when it is read.
        for tail in self._decisions:
            for _, record in tail.records():
                self._decided[record["index"]] = record
        for tail in self._drafts:
            for draft in tail.drafts():
                if draft.index >= self.pool.following:
                    self.pool.take(draft)
        while self._is_here(self.pool.following):
            record = self._decided.pop(self.pool.following)
            self.pool.settle(Verdict(reason=record.get("rejection")))
            self.shards.heard()
        if board.again is not None and board.again not in self._made_again:
            self._made_again.add(board.again)
            self.pool.make_again(board.again[0])

    def _is_here(self, index: int) -> bool:
        """Whether a row is decided, and the draft here is the one that was: it may have been made again meanwhile."""
        record, draft = self._decided.get(index), self.pool.drafts.get(index)
        if record is None or draft is None:
            return False
        ours = self.recorder.record(draft, Verdict(reason=record.get("rejection")))
        return _part(ours) == _part(record)

    def _wait(self) -> None:
        """Wait for decisions. Where a process is gone, let the first speak, or speak for it."""
        try:
            self.shards.wait(self.look)
        except UserError:
            if not self.shards.lost:
                raise
            while 0 not in self.shards.lost:
                self.shards.linger()
                self.look()
            if self.shards.peers.rank == 1:
                raise
            raise ElsewhereError from None


def _part(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: record.get(name) for name in COMPARED}
