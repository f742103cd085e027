"""Fill a folder with rows, or go on filling it."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlx_suite.data.questions import Questions
from mlx_suite.engine import Engine
from mlx_suite.engine.context import context_length
from mlx_suite.magpie.dataset import Dataset, open_dataset
from mlx_suite.magpie.decide import Judge
from mlx_suite.magpie.draft import Draft
from mlx_suite.magpie.fingerprint import fingerprint_of
from mlx_suite.magpie.manifest import now
from mlx_suite.magpie.pool import Pool
from mlx_suite.magpie.record import Record, Recorder
from mlx_suite.magpie.row import Plan, plan_rows
from mlx_suite.magpie.settings import MagpieSettings
from mlx_suite.magpie.summary import Summary, summarise
from mlx_suite.magpie.tally import Session
from mlx_suite.text import ChatTemplate, Tokenizer

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
) -> Summary:
    """End with exactly `settings.count` accepted rows in `folder`.

    Which rows these are depends on model, template and settings alone: not on the batch, nor on how often the run was
    stopped (in float32; in half precision rounding differs with the batch). A folder that is complete is only counted;
    one whose limits were raised or whose policy has changed is judged again, and only what is missing is made.

    Args:
        model: Ours or mlx-lm's, tokens (B, L) → logits (B, L, V).
        tokenizer: The model's own.
        template: Its chat template, from which the header is derived.
        settings: What to make.
        folder: Made if it is not there; continued if it was begun with the same settings.
        on_progress: Told of every decision.
        questions: What tags answer; by default those of the settings' file, of the checkpoint, or the built-in ones.

    Raises UserError where the header cannot be derived, the questions cannot be asked, the folder cannot be used, the
    disk is full, or the rows that are wanted will not come.
    """
    folder = Path(folder)
    plan = plan_rows(model, tokenizer, template, settings, questions)
    with open_dataset(folder, plan, fingerprint_of(model, plan)) as dataset:
        report = on_progress or (lambda accepted, asked: None)
        report(dataset.accepted, dataset.asked)
        session = None if dataset.is_full else _fill(model, plan, dataset, report)
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


def slots_for(settings: MagpieSettings) -> int:
    """Rows to make side by side. The same whenever a folder is continued: last bits depend on it."""
    # More slots than half as many again as there are rows to make would only make rows that nobody needs.
    return min(settings.batch, settings.count + settings.count // 2 + 1)


def _fill(model: Any, plan: Plan, dataset: Dataset, report: OnProgress) -> Session:
    """Run the engine until the wanted number of rows is accepted."""
    pool = Pool(dataset.judge, dataset.waiting, following=dataset.asked)
    session = Session(began=now(), slots=slots_for(plan.settings))
    engine = Engine(model, slots=session.slots, context=context_length(model))
    dataset.forget_embeddings()
    dataset.sessions.append(session)
    started = time.perf_counter()
    try:
        _decide(pool, dataset, session, report)
        # A run ends when there are probably enough rows. The decisions may have found that there are not.
        while not dataset.is_full:
            for done in engine.run(pool.requests()):
                draft: Draft = done.result
                session.finished(draft, plan)
                dataset.log(draft)
                pool.take(draft)
                _decide(pool, dataset, session, report)
                if dataset.is_full:
                    break
    finally:
        session.seconds = time.perf_counter() - started
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
