"""Fill a folder with rows, or go on filling it."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mlx_suite.engine import Engine, Request
from mlx_suite.engine.context import context_length
from mlx_suite.magpie.dataset import Dataset, open_dataset
from mlx_suite.magpie.fingerprint import fingerprint_of
from mlx_suite.magpie.record import Record, Recorder
from mlx_suite.magpie.row import Draft, Plan, plan_rows
from mlx_suite.magpie.screen import DUPLICATE, REASONS, answer_problem, instruction_problem, is_complete, key_of
from mlx_suite.magpie.settings import MagpieSettings
from mlx_suite.magpie.summary import Summary, Work, summarise
from mlx_suite.runtime.errors import UserError
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
) -> Summary:
    """End with exactly `settings.count` accepted rows in `folder`.

    Which rows these are depends on model, template and settings alone: not on the batch, nor on how often the run was
    stopped (in float32; in half precision rounding differs with the batch). A folder that is complete is only counted.

    Args:
        model: Ours or mlx-lm's, tokens (B, L) → logits (B, L, V).
        tokenizer: The model's own.
        template: Its chat template, from which the header is derived.
        settings: What to make.
        folder: Made if it is not there; continued if it was begun with the same settings.
        on_progress: Told of every decision.

    Raises UserError where the header cannot be derived, the folder cannot be used, the disk is full, or the model has
    nothing new to ask.
    """
    folder = Path(folder)
    plan = plan_rows(model, tokenizer, template, settings)
    with open_dataset(folder, plan, fingerprint_of(model, plan)) as dataset:
        report = on_progress or (lambda accepted, asked: None)
        report(len(dataset.accepted), dataset.asked)
        work = _fill(model, plan, dataset, report) if len(dataset.accepted) < settings.count else None
    return summarise(folder, dataset, work)


def replay_row(
    model: Any, tokenizer: Tokenizer, template: ChatTemplate, settings: MagpieSettings, index: int
) -> Record:
    """Make one row again from nothing but the settings and its number.

    It is judged alone: what was rejected as a duplicate comes out with its answer.
    """
    plan = plan_rows(model, tokenizer, template, settings)
    engine = Engine(model, slots=1, context=context_length(model))
    request = plan.request(index, lambda draft: instruction_problem(plan, draft) is None)
    [done] = engine.run([request])
    draft: Draft = done.result
    reason = instruction_problem(plan, draft) or answer_problem(plan, draft)
    recorder = Recorder(plan=plan, fingerprint=fingerprint_of(model, plan).value)
    return recorder.accepted(draft) if reason is None else recorder.rejected(draft, reason)


class _Foresight:
    """What is known from finished rows before they are decided.

    Rows finish out of order. Every instruction that has a complete answer will be accepted at some index, its lowest
    one; so once there are as many of them as rows are wanted, no further row has to be begun.
    """

    def __init__(self, plan: Plan, dataset: Dataset) -> None:
        self.plan = plan
        self.lowest = dict(dataset.accepted)
        """Per instruction (`key_of`), the lowest index at which it is complete."""

    def worth_answering(self, draft: Draft) -> bool:
        """Whether an instruction may become a row; not if a lower index has the same one already."""
        if instruction_problem(self.plan, draft) is not None:
            return False
        return self.lowest.get(key_of(draft.instruction), draft.index) >= draft.index

    def finished(self, draft: Draft) -> None:
        """Take note of a row that has ended."""
        if is_complete(self.plan, draft):
            key = key_of(draft.instruction)
            self.lowest[key] = min(draft.index, self.lowest.get(key, draft.index))

    def requests(self, indices: Iterator[int]) -> Iterator[Request]:
        """Rows to begin, as long as there may be too few. The engine draws one whenever a slot is free."""
        for index in indices:
            if len(self.lowest) >= self.plan.settings.count:
                return
            yield self.plan.request(index, self.worth_answering)


def _fill(model: Any, plan: Plan, dataset: Dataset, report: OnProgress) -> Work:
    """Run the engine until the wanted number of rows is accepted."""
    settings, before = plan.settings, len(dataset.accepted)
    needed = settings.count - before
    # More slots than half as many again as there are rows to make would only make rows that nobody needs.
    slots = min(settings.batch, needed + needed // 2 + 1)
    engine = Engine(model, slots=slots, context=context_length(model))
    foresight = _Foresight(plan, dataset)
    finished: dict[int, Draft] = {}
    to_decide = dataset.undecided()
    following = next(to_decide)
    _check_dry_spell(dataset, settings)
    started = time.perf_counter()
    for done in engine.run(foresight.requests(dataset.undecided())):
        draft: Draft = done.result
        finished[draft.index] = draft
        foresight.finished(draft)
        while following in finished:
            dataset.decide(finished.pop(following))
            report(len(dataset.accepted), dataset.asked)
            if len(dataset.accepted) == settings.count:
                seconds = time.perf_counter() - started
                return Work(rows=needed, seconds=seconds, counts=engine.counts)
            _check_dry_spell(dataset, settings)
            following = next(to_decide)
    raise AssertionError("the requests end only when enough rows are complete")


def _check_dry_spell(dataset: Dataset, settings: MagpieSettings) -> None:
    """Give up when the model has nothing new to ask."""
    spell = dataset.dry_spell
    if spell.total() < settings.patience:
        return
    raise UserError(
        f"{len(dataset.accepted)} of {settings.count} rows are made, and the last {spell.total()} were all rejected",
        where="the rows are kept; each rejected one is in rejected.jsonl with its reason",
        fix=_remedy(spell.most_common(1)[0][0], len(dataset.accepted), settings),
        details=[f"{number} times: {REASONS.get(reason, reason)}" for reason, number in spell.most_common()],
    )


def _remedy(reason: str, accepted: int, settings: MagpieSettings) -> str:
    """What to do about the most frequent reason."""
    part, _, what = reason.partition("_")
    if reason == DUPLICATE:
        change = "the model repeats itself: raise --temperature"
    elif what == "limit":
        change = f"raise --max-{part}"
    else:
        change = "see what the model writes in rejected.jsonl; it may not be an instruction-tuned checkpoint"
    settle = f"settle for --count {accepted}; or " if accepted else ""
    return f"{settle}{change} (in another folder); or go on trying with --patience above {settings.patience}"
