"""Fill a run folder with rows, or resume filling it."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_suite.data.questions import Questions
from mlx_suite.engine import Engine, Request, context_length
from mlx_suite.evaluate.microworld import check_dataset
from mlx_suite.magpie.judge import Judge
from mlx_suite.magpie.manifest import Fingerprint, fingerprint_of, judged_by, now
from mlx_suite.magpie.memory import RunMemory, memory_budget, memory_limits
from mlx_suite.magpie.plan import RowPlan, plan_rows
from mlx_suite.magpie.rank_zero import RankZero
from mlx_suite.magpie.records import Draft, Record, Recorder
from mlx_suite.magpie.row import row_request
from mlx_suite.magpie.run_folder import RunFolder, open_run_folder
from mlx_suite.magpie.scheduler import Pool
from mlx_suite.magpie.settings import MagpieSettings
from mlx_suite.magpie.shards import Over, Shards
from mlx_suite.magpie.stats import RunSummary, Session
from mlx_suite.text import ChatTemplate, Tokenizer
from mlx_suite.training.process_group import ProcessGroup

OnProgress = Callable[[int, int, int], None]
"""Called with the numbers of accepted and decided rows and of rows in flight in this process: at the start, when a row
starts, and after every decision."""
OnNote = Callable[[str], None]
"""Called with a sentence that the user should see."""


def make_dataset(
    model: Any,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    settings: MagpieSettings,
    folder: Path | str,
    on_progress: OnProgress | None = None,
    questions: Questions | None = None,
    on_note: OnNote | None = None,
    group: ProcessGroup | None = None,
) -> RunSummary:
    """Generate rows until `folder` holds exactly `settings.count` accepted ones.

    The rows depend only on model, template and settings: not on the batch size, on interruptions, or on the number of
    processes (in float32; in half precision, rounding differs with the batch). A complete folder is left as it is. If
    its limits were raised or its policy has changed, its drafts are judged again and only missing rows are generated.

    Args:
        model: Ours or mlx-lm's, tokens (B, L) → logits (B, L, V).
        tokenizer: The model's own.
        template: Its chat template, from which the header is derived.
        settings: What to generate.
        folder: Created if missing; resumed if it was started with the same settings.
        on_progress: Called when a row starts and after every decision.
        questions: Tagging questions. Default: those of the settings' file, of the checkpoint, or the built-in ones.
        on_note: Called with the reason if memory allows only a smaller batch, and if the model was never trained on the
            token that ends a user's turn.
        group: Rank and world size; this process is rank 0. The others call `followers.follow_dataset`.

    Raises UserError if the header cannot be derived, a question cannot be encoded, the folder cannot be used, the disk
    is full, memory is too small, another process has ended, or the yield is too low to reach the count;
    ElsewhereError if another process reports the problem.
    """
    folder = Path(folder)
    shards = Shards(group or ProcessGroup(), folder)
    with prepare(model, tokenizer, template, settings, shards, questions, on_note) as prepared, ExitStack() as stack:
        opening = open_run_folder(folder, prepared.plan, prepared.fingerprint)
        run_folder = shards.together(lambda: stack.enter_context(opening))
        report = on_progress or (lambda accepted, decided, in_flight: None)
        report(run_folder.accepted, run_folder.decided, 0)
        session = None
        if not shards.broadcast(int(run_folder.is_complete)):
            rank_zero = RankZero(shards)
            with rank_zero.leading():
                session = _fill(prepared, run_folder, report, rank_zero)
    return RunSummary(
        folder=folder,
        tally=run_folder.tally,
        sessions=tuple(run_folder.sessions),
        work=session,
        truth=check_dataset(run_folder.accepted_rows()),
    )


def replay_row(
    model: Any,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    settings: MagpieSettings,
    index: int,
    steer: Mapping[str, str] | None = None,
    questions: Questions | None = None,
) -> Record:
    """Generate one row again from the settings, its number, and its record's `steer`.

    The row is judged alone: one that was rejected as a duplicate or by a quota gets a response, and there is no
    `nearest`.
    """
    plan = plan_rows(model, tokenizer, template, settings, questions)
    judge = Judge(plan)
    engine = Engine(model, slots=1, context=context_length(model))
    [done] = engine.run([row_request(plan, index, tuple((steer or {}).items()), judge.is_certain_reject)])
    draft: Draft = done.result
    decision = judge.preview(draft)
    assert decision is not None, "a row judged alone has everything its decision needs"
    return Recorder(plan=plan, fingerprint=fingerprint_of(model, plan).value).record(draft, decision)


@dataclass(frozen=True, kw_only=True)
class PreparedMagpie:
    """Everything that a process needs to generate rows."""

    model: Any
    plan: RowPlan
    fingerprint: Fingerprint
    memory: RunMemory

    @property
    def slots(self) -> int:
        """Rows to generate concurrently."""
        return self.memory.slots

    def engine(self) -> Engine:
        """Make an engine with `slots` slots."""
        return Engine(self.model, slots=self.slots, context=context_length(self.model), limit=self.memory.limit)


@contextmanager
def prepare(
    model: Any,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    settings: MagpieSettings,
    shards: Shards,
    questions: Questions | None = None,
    on_note: OnNote | None = None,
) -> Iterator[PreparedMagpie]:
    """Make this process's plan, fingerprint and memory budget; limit memory in the block.

    Raises UserError if settings, model or memory are invalid here or differ between processes, ElsewhereError if
    another process reports the problem.
    """

    def make() -> PreparedMagpie:
        plan = plan_rows(model, tokenizer, template, settings, questions)
        fingerprint = fingerprint_of(model, plan)
        budget = memory_budget(model, plan, slots_for(settings, shards.group.size))
        return PreparedMagpie(model=model, plan=plan, fingerprint=fingerprint, memory=budget)

    prepared = shards.together(make)
    shards.agree(prepared.fingerprint.value, judged_by(prepared.plan), settings.count)
    for note in (prepared.plan.untrained_note, prepared.memory.note):
        if note is not None and on_note is not None:
            on_note(note)
    with memory_limits(prepared.memory, settings):
        yield prepared


def slots_for(settings: MagpieSettings, processes: int = 1) -> int:
    """Rows to generate concurrently in each process, before memory is considered."""
    # More slots than 1.5 × count would only generate rows that are not needed.
    return min(settings.batch, -(-(settings.count + settings.count // 2 + 1) // processes))


def _fill(prepared: PreparedMagpie, run_folder: RunFolder, report: OnProgress, rank_zero: RankZero) -> Session:
    """Run the engine until the folder is complete."""
    shards, plan = rank_zero.shards, prepared.plan
    pool = Pool(run_folder.judge, run_folder.waiting, next_index=run_folder.decided, is_own=shards.is_own)
    session = Session(began=now(), slots=prepared.slots, processes=shards.group.size)
    engine = prepared.engine()
    run_folder.delete_embeddings()
    run_folder.sessions.append(session)
    started = time.perf_counter()

    def poll() -> None:
        """Add rows from the other processes. Raises Over when the folder is complete."""
        for draft in rank_zero.arrived():
            session.add_row(draft, plan)
            pool.add(draft)
        _decide(pool, run_folder, session, report)
        rank_zero.request_retry(pool)
        if run_folder.is_complete:
            raise Over

    try:
        poll()
        # The engine ends when there are probably enough rows; the decisions may show that there are not.
        while True:
            requests = shards.requests(_reported(pool, run_folder, report), lambda: pool.lead, session.slots, poll)
            for done in engine.run(requests):
                draft: Draft = done.result
                session.add_row(draft, plan)
                run_folder.log(draft)
                pool.add(draft)
                _decide(pool, run_folder, session, report)
                if run_folder.is_complete:
                    raise Over
            run_folder.flush()
            shards.wait(poll)
    except Over:
        rank_zero.complete = True
    finally:
        session.seconds = round(time.perf_counter() - started, 3)  # as in the manifest
        session.add_engine(engine.stats)
    return session


def _reported(pool: Pool, run_folder: RunFolder, report: OnProgress) -> Iterator[Request | None]:
    """The pool's requests; each row that starts is reported."""
    for request in pool.requests():
        if request is not None:
            report(run_folder.accepted, run_folder.decided, pool.in_flight)
        yield request


def _decide(pool: Pool, run_folder: RunFolder, session: Session, report: OnProgress) -> None:
    """Write all decisions that can be made now. Raises UserError if the run should stop."""
    run_folder.stop_rule.check()
    if run_folder.is_complete:
        return
    for draft, decision in pool.decisions():
        run_folder.write(draft, decision)
        session.decided += 1
        session.rows += decision.reason is None
        report(run_folder.accepted, run_folder.decided, pool.in_flight)
        if run_folder.is_complete:
            return
        run_folder.stop_rule.check()
