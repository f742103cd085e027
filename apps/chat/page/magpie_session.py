"""A Magpie session: rows that a served model asks and answers, while somebody watches and judges them.

The rows are the library's own programs (`mlx_suite.magpie.row`), run by the service beside the chats, and decided by
its own judge. Unlike in a run folder, a row is decided as soon as it is finished, not in the order of the numbers.

The session lives on the event loop. A row's program runs on the service's thread and reports to the loop; a lock
protects the judge, which both use.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from threading import Lock
from typing import Any

from mlx_suite.engine import Cancelled, Done, Request
from mlx_suite.engine.chat_model import ChatModel
from mlx_suite.magpie.judge import Judge, instruction_problem, response_problem
from mlx_suite.magpie.manifest import fingerprint_of
from mlx_suite.magpie.plan import RowPlan, plan_rows
from mlx_suite.magpie.records import Decision, Draft, Recorder
from mlx_suite.magpie.row import row_request
from mlx_suite.runtime.errors import UserError
from mlx_suite.serving.service import EngineFailure, QueueFull, Service

from .magpie_feed import Event, MagpieFeed
from .magpie_file import SessionFile, StoredSession
from .magpie_row import DECIDED, MagpieRow, Part, RowState, Verdict
from .magpie_watch import RowWatch, longest_row

AT_ONCE = 8
"""Rows in flight: enough to fill a batch, few enough to watch, and chats still find a slot."""
MOST_ROWS = 5000
"""Rows of a session, all of which the page shows."""


class MagpieSession:
    """One session, new or read from its file.

    Args:
        name: Name of the session, for its address.
        stored: What its file holds.
    """

    def __init__(self, service: Service, name: str, file: SessionFile, stored: StoredSession) -> None:
        self.name, self.settings, self.created = name, stored.settings, stored.created
        self.target = stored.target
        """Rows to ask."""
        self.rows = dict(stored.rows)
        """Rows by number."""
        self.problem: str | None = None
        """Why the session stopped by itself."""
        self._service, self._file = service, file
        self._is_running = False
        self._flight: dict[int, Request] = {}
        self._dropped: set[int] = set()
        """Rows in flight that a stop has cancelled."""
        self._feeds: set[MagpieFeed] = set()
        self._plan: RowPlan | None = None
        self._judge: Judge | None = None
        self._fingerprint: str | None = None
        self._lock = Lock()
        self._starting = asyncio.Lock()

    # ---- what the page asks for

    async def ask(self, rows: int) -> None:
        """Ask this many more rows, and those that a stop interrupted.

        Raises UserError if the model is not served, its template shows no header, or the session would be too long.
        """
        if rows < 0 or self.target + rows > MOST_ROWS:
            raise UserError(
                f"{rows} more rows are too many: a session has at most {MOST_ROWS:,}",
                fix="start a new session, or run `mlx-suite magpie run` for a large dataset",
            )
        async with self._starting:
            await self._prepare()
            if rows:
                self._file.extend(self.target + rows)
                self.target += rows
            self._is_running, self.problem = True, None
            self._fill()

    def stop(self) -> None:
        """Stop asking. Rows in flight are dropped; the next `ask` begins with them."""
        self._is_running = False
        self._dropped |= self._flight.keys()
        for request in self._flight.values():
            request.cancel()
        self._tell_state()

    def judge(self, index: int, verdict: Verdict | None) -> MagpieRow:
        """Note a person's verdict on a row; None takes it back. Raises UserError for a row that cannot have it."""
        row = self.rows.get(index)
        if row is None or row.state not in DECIDED:
            raise UserError(f"Row {index} is not decided yet", fix="wait until the model has finished it")
        if verdict == "keep" and not row.complete:
            raise UserError(f"Row {index} has no complete response", fix="keep only rows that came to their end")
        if verdict != row.verdict:
            self._file.judge(index, verdict)
            row.verdict = verdict
            self._tell_row(row)
        return row

    async def close(self) -> None:
        """Stop, end all feeds and unlock the file."""
        self.stop()
        for feed in self._feeds:
            feed.close()
        self._file.close()

    # ---- what the page shows

    def state(self) -> dict[str, Any]:
        """The session without its rows."""
        return {
            "name": self.name,
            "created": self.created,
            "model": self.settings.model,
            "temperature": self.settings.temperature,
            "category": self.settings.category,
            "max_answer": self.settings.max_answer,
            "target": self.target,
            "running": self._is_running,
            "problem": self.problem,
        }

    def snapshot(self) -> dict[str, Any]:
        """The session and all its rows."""
        return {"session": self.state(), "rows": [self.rows[index].as_json() for index in sorted(self.rows)]}

    async def events(self) -> AsyncIterator[Event]:
        """The session as it is, then every change, until it is closed."""
        feed = MagpieFeed(self.snapshot())
        self._feeds.add(feed)
        try:
            async for event in feed:
                yield event
        finally:
            self._feeds.discard(feed)

    def kept(self) -> Sequence[MagpieRow]:
        """The rows to export, in order."""
        return [self.rows[index] for index in sorted(self.rows) if self.rows[index].is_kept]

    async def records(self) -> list[dict[str, Any]]:
        """The kept rows as in a run folder's `accepted.jsonl`. Raises UserError if the model is not served."""
        async with self._starting:
            await self._prepare()
        plan = self._plan
        assert plan is not None
        if self._fingerprint is None:
            name = self.settings.model
            self._fingerprint = await self._service.call(name, lambda chat: fingerprint_of(chat.model, plan).value)
        recorder = Recorder(plan=plan, fingerprint=self._fingerprint)
        return [recorder.record(row.draft, Decision()) for row in self.kept() if row.draft is not None]

    # ---- rows, on the event loop

    async def _prepare(self) -> None:
        """Make the plan, and a judge that knows the decisions so far."""
        if self._plan is not None:
            return
        settings = self.settings.magpie()

        def plan(chat: ChatModel) -> RowPlan:
            return plan_rows(chat.model, chat.tokenizer, chat.own_template, settings)

        made = await self._service.call(self.settings.model, plan)
        self._judge = await asyncio.to_thread(_judge_of, made, list(self.rows.values()))
        self._plan = made

    def _fill(self) -> None:
        """Submit rows while there are free places."""
        while self._is_running and len(self._flight) < AT_ONCE:
            index = next((i for i in range(self.target) if self._is_open(i)), None)
            if index is None:
                self._is_running = bool(self._flight)
                break
            try:
                if not self._submit(index):
                    break
            except QueueFull as error:
                asyncio.get_running_loop().call_later(error.retry_after, self._fill)
                break
            except UserError as error:
                self._fail(error)
                break
        self._tell_state()

    def _is_open(self, index: int) -> bool:
        return index not in self._flight and (index not in self.rows or self.rows[index].state == "stopped")

    def _submit(self, index: int) -> bool:
        """Submit a row; False if a decision must come first. Raises UserError."""
        assert self._plan is not None and self._judge is not None
        with self._lock:
            steer = self._judge.steering.of(index)
        if steer is None:
            return False
        loop = asyncio.get_running_loop()

        def tell(report: Callable[[], None]) -> None:
            with suppress(RuntimeError):  # the loop is closed: the server shuts down
                loop.call_soon_threadsafe(report)

        watch = RowWatch(
            self._plan,
            self._is_certain_reject,
            on_text=lambda part, piece: tell(lambda: self._on_text(index, part, piece)),
            on_state=lambda state, draft: tell(lambda: self._on_state(index, state, draft)),
        )
        request = watch.watched(row_request(self._plan, index, steer, watch.check))
        self._service.submit(
            self.settings.model,
            request,
            lambda done: tell(lambda: self._finished(index, done)),
            tokens=longest_row(self._plan, steer),
        )
        self._flight[index] = request
        self.rows[index] = MagpieRow(index=index)
        self._tell_row(self.rows[index])
        return True

    def _is_certain_reject(self, draft: Draft) -> bool:
        assert self._judge is not None
        with self._lock:
            return self._judge.is_certain_reject(draft)

    def _finished(self, index: int, done: Done) -> None:
        del self._flight[index]
        row = self.rows[index]
        if done.error is None:
            try:
                self._decide(row, done.result)
            except UserError as error:  # the disk is full
                row.state = "stopped"
                self._fail(error)
        else:
            row.state = "stopped"
            if isinstance(done.error, Cancelled) and index not in self._dropped:
                self._fail(UserError("A row took longer than the server's time limit", fix="ask for shorter responses"))
            elif not isinstance(done.error, Cancelled):
                self._fail(done.error)
        self._dropped.discard(index)
        self._tell_row(row)
        self._fill()

    def _decide(self, row: MagpieRow, draft: Draft) -> None:
        assert self._plan is not None and self._judge is not None
        with self._lock:
            decision = self._judge.decide(draft)
        assert decision is not None, "a finished row has everything that its decision needs"
        has_response = draft.response_end is not None and response_problem(self._plan, draft) is None
        is_complete = has_response and instruction_problem(self._plan, draft) is None
        row.finish(draft, decision, complete=is_complete)
        self._file.add(row)

    def _fail(self, error: Exception) -> None:
        fix = f": {error.fix}" if isinstance(error, UserError) and error.fix else ""
        self.problem = f"{error.what if isinstance(error, UserError) else error}{fix}"
        if isinstance(error, EngineFailure) or not self.problem:
            self.problem = "The engine failed while it worked on a row. Continue to try again."
        self.stop()

    # ---- reports to the readers

    def _on_text(self, index: int, part: Part, piece: str) -> None:
        """A row in flight has written more of a text."""
        if index not in self._flight:
            return
        row = self.rows[index]
        if part == "instruction":
            row.instruction += piece
        else:
            row.response += piece
        for feed in self._feeds:
            feed.text(index, part, piece)

    def _on_state(self, index: int, state: RowState, draft: Draft | None) -> None:
        """A row in flight has come to another state; without a draft, it was begun again."""
        if index not in self._flight:
            return
        row = self.rows[index]
        row.state = state
        row.instruction, row.response = ("", "") if draft is None else (draft.instruction, draft.response)
        self._tell_row(row)

    def _tell_row(self, row: MagpieRow) -> None:
        for feed in self._feeds:
            feed.row(row.as_json())

    def _tell_state(self) -> None:
        for feed in self._feeds:
            feed.session(self.state())


def _judge_of(plan: RowPlan, rows: Sequence[MagpieRow]) -> Judge:
    """A judge that knows the decisions so far."""
    judge = Judge(plan)
    for row in rows:
        if row.draft is not None:
            judge.record(row.draft, row.decision)
    return judge
