"""Fill a run folder with rows, or resume filling it."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from mlx_suite.data.questions import Questions
from mlx_suite.engine import Engine, Request, context_length
from mlx_suite.evaluate.microworld import check_dataset
from mlx_suite.magpie.judge import Judge
from mlx_suite.magpie.manifest import Fingerprint, fingerprint_of, judged_by, now
from mlx_suite.magpie.memory import RunMemory, memory_budget, memory_limits
from mlx_suite.magpie.plan import RowPlan, plan_rows
from mlx_suite.magpie.records import Decision, Draft, Record, Recorder, draft_line, drafts_name
from mlx_suite.magpie.row import row_request
from mlx_suite.magpie.run_folder import RunFolder, open_run_folder
from mlx_suite.magpie.scheduler import Pool
from mlx_suite.magpie.settings import MagpieSettings
from mlx_suite.magpie.stats import RunSummary, Session
from mlx_suite.magpie.workers import Workers
from mlx_suite.runtime.journal import Journal
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
        group: Rank and world size; this process is rank 0. The others call `follow_dataset`.

    Raises UserError if the header cannot be derived, a question cannot be encoded, the folder cannot be used, the disk
    is full, memory is too small, another process has ended, or the yield is too low to reach the count;
    ElsewhereError if another process reports the problem.
    """
    folder = Path(folder)
    workers = Workers(group or ProcessGroup(), folder)
    with prepare(model, tokenizer, template, settings, workers, questions, on_note) as prepared, ExitStack() as stack:
        opening = open_run_folder(folder, prepared.plan, prepared.fingerprint)
        run_folder = workers.together(lambda: stack.enter_context(opening))
        report = on_progress or (lambda accepted, decided, in_flight: None)
        report(run_folder.accepted, run_folder.decided, 0)
        session = None
        if not workers.broadcast(int(run_folder.is_complete)):
            workers.together(lambda: None)  # the others open their files
            with workers.watching():
                session = _fill(prepared, run_folder, report, workers)
    return RunSummary(
        folder=folder,
        tally=run_folder.tally,
        sessions=tuple(run_folder.sessions),
        work=session,
        truth=check_dataset(run_folder.accepted_rows()),
    )


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
    workers = Workers(group, Path(folder))
    with prepare(model, tokenizer, template, settings, workers, questions, on_note) as prepared, ExitStack() as stack:
        workers.together(lambda: None)  # rank 0 opens the folder
        if workers.broadcast(0):
            return
        path = workers.folder / drafts_name(group.rank)
        journal = workers.together(lambda: stack.enter_context(Journal(path)))
        with workers.watching():
            _follow(prepared, journal, workers)
        path.unlink()  # rank 0 has logged what it needed


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
    workers: Workers,
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
        budget = memory_budget(model, plan, slots_for(settings, workers.group.size))
        return PreparedMagpie(model=model, plan=plan, fingerprint=fingerprint, memory=budget)

    prepared = workers.together(make)
    workers.check_same(prepared.fingerprint.value, judged_by(prepared.plan), settings.count)
    for note in (prepared.plan.untrained_note, prepared.memory.note):
        if note is not None and on_note is not None:
            on_note(note)
    with memory_limits(prepared.memory, settings):
        yield prepared


def slots_for(settings: MagpieSettings, processes: int = 1) -> int:
    """Rows to generate concurrently in each process, before memory is considered."""
    # More slots than 1.5 × count would only generate rows that are not needed.
    return min(settings.batch, -(-(settings.count + settings.count // 2 + 1) // processes))


def _fill(prepared: PreparedMagpie, run_folder: RunFolder, report: OnProgress, workers: Workers) -> Session:
    """Generate and decide rows until the folder is complete."""
    pool = Pool(run_folder.judge, run_folder.waiting, next_index=run_folder.decided, owns=workers.owns)
    session = Session(began=now(), slots=prepared.slots, processes=workers.group.size)
    engine = prepared.engine()
    run_folder.delete_embeddings()
    run_folder.sessions.append(session)
    started = time.perf_counter()

    def add(draft: Draft) -> None:
        session.add_row(draft, prepared.plan)
        if draft.index >= pool.next_index:  # the last logged draft of a row is the one that it is decided by
            run_folder.log(draft)
        pool.add(draft)

    def poll() -> bool:
        for draft in workers.new_drafts():
            add(draft)
        _decide(pool, run_folder, session, report)
        return run_folder.is_complete

    try:
        _generate(engine, lambda: _reported(pool, run_folder, report), workers, add, poll, run_folder.flush)
    finally:
        session.seconds = round(time.perf_counter() - started, 3)  # as in the manifest
        session.add_engine(engine.stats)
    return session


def _follow(prepared: PreparedMagpie, journal: Journal, workers: Workers) -> None:
    """Generate rows until rank 0 has completed the folder. Rank 0's decisions are applied, never made here.

    On another machine, a cosine similarity may round to the other side of a threshold.
    """
    judge = Judge(prepared.plan)
    pool = Pool(judge, {}, next_index=0, owns=workers.owns)
    decisions: dict[int, str | None] = {}
    """Reasons of decisions that are not applied yet, by row."""

    def add(draft: Draft) -> None:
        journal.append(draft_line(draft))
        pool.add(draft)

    def poll() -> bool:
        decisions.update(workers.new_decisions())  # before the drafts that they were made from
        for draft in workers.new_drafts():
            pool.add(draft)
        while pool.next_index in decisions and pool.next_index in pool.drafts:
            pool.record(Decision(reason=decisions.pop(pool.next_index)))
        return len(judge.keys) >= prepared.plan.settings.count

    _generate(prepared.engine(), pool.requests, workers, add, poll, journal.sync)


def _generate(
    engine: Engine,
    requests: Callable[[], Iterator[Request | None]],
    workers: Workers,
    add: Callable[[Draft], None],
    poll: Callable[[], bool],
    flush: Callable[[], None],
) -> None:
    """Run the engine until `poll` says that the folder is complete.

    Args:
        requests: Rows to start; ends when there are probably enough, which later decisions may disprove.
        add: Called with each row that has been generated here.
        poll: Takes note of the other workers' progress and decides what can be decided.
        flush: Writes to disk what other machines must see.
    """
    is_complete = poll()
    while not is_complete:
        for done in engine.steps(takewhile(lambda _: not workers.lost, requests())):
            if done is not None:
                add(done.result)
            if (done is not None or workers.is_due()) and poll():
                return
        flush()
        workers.wait()
        is_complete = poll()


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
