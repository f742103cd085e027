"""Fill a folder with rows, or go on filling it."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mlx_suite.data.questions import Questions
from mlx_suite.engine import Engine
from mlx_suite.engine.context import context_length
from mlx_suite.magpie.dataset import Dataset, open_dataset
from mlx_suite.magpie.decide import Judge
from mlx_suite.magpie.draft import Draft
from mlx_suite.magpie.fingerprint import fingerprint_of
from mlx_suite.magpie.first import First
from mlx_suite.magpie.manifest import now
from mlx_suite.magpie.pool import Pool
from mlx_suite.magpie.prepare import OnNote, Prepared, prepare
from mlx_suite.magpie.record import Record, Recorder
from mlx_suite.magpie.row import plan_rows
from mlx_suite.magpie.settings import MagpieSettings
from mlx_suite.magpie.shards import Over, Shards
from mlx_suite.magpie.summary import Summary, summarise
from mlx_suite.magpie.tally import Session
from mlx_suite.text import ChatTemplate, Tokenizer
from mlx_suite.training.peers import Peers

OnProgress = Callable[[int, int], None]
"""Called with the rows accepted and the rows decided so far: once at the start, then after every decision."""


def make_dataset(
    model: Any,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    settings: MagpieSettings,
    folder: Path | str,
    on_progress: OnProgress | None = None,
    questions: Questions | None = None,
    on_note: OnNote | None = None,
    peers: Peers | None = None,
) -> Summary:
    """End with exactly `settings.count` accepted rows in `folder`.

    Which rows these are depends on model, template and settings alone: not on the batch, nor on how often the run was
    stopped, nor on how many processes made them (in float32; in half precision rounding differs with the batch). A
    folder that is complete is only counted; one whose limits were raised or whose policy has changed is judged again,
    and only what is missing is made.

    Args:
        model: Ours or mlx-lm's, tokens (B, L) → logits (B, L, V).
        tokenizer: The model's own.
        template: Its chat template, from which the header is derived.
        settings: What to make.
        folder: Made if it is not there; continued if it was begun with the same settings.
        on_progress: Told of every decision.
        questions: What tags answer; by default those of the settings' file, of the checkpoint, or the built-in ones.
        on_note: Told why there are fewer rows side by side than was asked for.
        peers: This process among several, of which it is the first. The others call `followers.follow_dataset`.

    Raises UserError where the header cannot be derived, the questions cannot be asked, the folder cannot be used, the
    disk is full, the memory is not enough, another process is gone, or the rows that are wanted will not come;
    ElsewhereError where another process says what is wrong.
    """
    folder = Path(folder)
    shards = Shards(peers or Peers(), folder)
    with (
        prepare(model, tokenizer, template, settings, shards, questions, on_note) as prepared,
        ExitStack() as stack,
    ):
        opened = open_dataset(folder, prepared.plan, prepared.fingerprint)
        dataset = shards.together(lambda: stack.enter_context(opened))
        report = on_progress or (lambda accepted, asked: None)
        report(dataset.accepted, dataset.asked)
        session = None
        if not shards.tell(int(dataset.is_full)):
            first = First(shards)
            with first.leading():
                session = _fill(prepared, dataset, report, first)
    return summarise(folder, dataset, session)


def replay_row(
    model: Any,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    settings: MagpieSettings,
    index: int,
    steer: Mapping[str, str] | None = None,
    questions: Questions | None = None,
) -> Record:
    """Make one row again from nothing but the settings, its number and what its record says under `steer`.

    It is judged alone: what was rejected for its likeness to others, or for a quota, comes out with its answer, and
    there is no `nearest`.
    """
    plan = plan_rows(model, tokenizer, template, settings, questions)
    judge = Judge(plan)
    engine = Engine(model, slots=1, context=context_length(model))
    [done] = engine.run([plan.request(index, tuple((steer or {}).items()), judge.is_lost)])
    draft: Draft = done.result
    verdict = judge.verdict(draft)
    assert verdict is not None, "alone, a row has all that its decision needs"
    return Recorder(plan=plan, fingerprint=fingerprint_of(model, plan).value).record(draft, verdict)


def _fill(prepared: Prepared, dataset: Dataset, report: OnProgress, first: First) -> Session:
    """Run the engine until the wanted number of rows is accepted."""
    shards, plan = first.shards, prepared.plan
    pool = Pool(dataset.judge, dataset.waiting, following=dataset.asked, mine=shards.mine)
    session = Session(began=now(), slots=prepared.slots, processes=shards.peers.size)
    engine = prepared.engine()
    dataset.forget_embeddings()
    dataset.sessions.append(session)
    started = time.perf_counter()

    def look() -> None:
        """Take in what other processes have made. Raises Over when all rows are there."""
        for draft in first.arrived():
            session.finished(draft, plan)
            pool.take(draft)
        _decide(pool, dataset, session, report)
        first.ask_again(pool)
        if dataset.is_full:
            raise Over

    try:
        look()
        # A run ends when there are probably enough rows. The decisions may have found that there are not.
        while True:
            requests = shards.requests(pool.requests(), lambda: pool.ahead, session.slots, look)
            for done in engine.run(requests):
                draft: Draft = done.result
                session.finished(draft, plan)
                dataset.log(draft)
                pool.take(draft)
                _decide(pool, dataset, session, report)
                if dataset.is_full:
                    raise Over
            dataset.flush()
            shards.wait(look)
    except Over:
        first.complete = True
    finally:
        session.seconds = round(time.perf_counter() - started, 3)  # as it will be read again
        session.ended(engine.counts)
    return session


def _decide(pool: Pool, dataset: Dataset, session: Session, report: OnProgress) -> None:
    """Write the decisions that can be made now."""
    dataset.prospects.check()
    if dataset.is_full:
        return
    for draft, verdict in pool.decided():
        dataset.write(draft, verdict)
        session.decided += 1
        session.rows += verdict.reason is None
        report(dataset.accepted, dataset.asked)
        if dataset.is_full:
            return
        dataset.prospects.check()
