"""Output of `finetune`: labelled lines on the data, the model and the result, and the fields of `--json`."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mlx_suite.finetune.settings import FinetuneSettings

if TYPE_CHECKING:
    from mlx_suite.finetune.estimate.estimate import RunEstimate
    from mlx_suite.finetune.model import TrainableModel
    from mlx_suite.finetune.prepare import PreparedRun
    from mlx_suite.finetune.run import FinishedRun, RunPlan
    from mlx_suite.training.process_group import ProcessGroup

PARTS = {"train": "training", "valid": "validation", "test": "testing"}


NAMED = 6
"""Keys that are not read and are named in a line."""


def data_lines(prepared: "PreparedRun") -> Iterator[tuple[str, str]]:
    """Lines on the files read, what of them is not trained, and the trained tokens."""
    for file in prepared.dataset.files:
        if file.part == "unused":
            continue
        bad = f", {file.bad:,} bad" if file.bad else ""
        yield "read", f"{file.name}: {_rows(file.rows)} of {file.format}{bad}, for {PARTS[file.part]}"
    yield from not_trained_lines(prepared)
    share = prepared.trained_tokens / max(prepared.tokens, 1)
    yield (
        "examples",
        f"{len(prepared.train):,} to train on, {len(prepared.valid):,} to validate; "
        f"{prepared.trained_tokens:,} of {prepared.tokens:,} tokens are trained ({share:.0%})",
    )


def not_trained_lines(prepared: "PreparedRun") -> Iterator[tuple[str, str]]:
    """Lines on what the files hold and the run does not train: `--quiet` does not hide them."""
    from mlx_suite.data.read.sources import ACCEPTED_FILE

    # The other files in the folder of a Magpie run or a filter are its records.
    of_run = any(file.name == ACCEPTED_FILE for file in prepared.dataset.files)
    for file in prepared.dataset.files:
        if file.part == "unused" and not of_run:
            yield "not read", f"{file.name}, next to the training file"
        if file.unread:
            # A key in most rows may be the data; one in few rows may be forgotten.
            keys = [f"{key} in {count:,}" for key, count in file.unread.items()]
            more = f", {len(keys) - NAMED:,} more keys" if len(keys) > NAMED else ""
            yield "not read", f"{', '.join(keys[:NAMED])}{more} of {_rows(file.rows)} of {file.name}"
    if prepared.dataset.left_out:
        first = prepared.dataset.left_out[0]
        yield "left out", f"{_rows(len(prepared.dataset.left_out))}: {first.what} (first {first.place})"
    if prepared.problems:
        yield "left out", f"{_rows(len({problem.place for problem in prepared.problems}))} with defects"
    counts = prepared.counts
    changes = {
        "dropped": counts.dropped,
        "truncated": counts.truncated,
        f"split into {counts.pieces:,}": counts.split,
    }
    if any(changes.values()):
        yield "too long", ", ".join(f"{count:,} {what}" for what, count in changes.items() if count)
    for note in _notes(prepared):
        yield "note", note


def _notes(prepared: "PreparedRun") -> Iterator[str]:
    yield from prepared.notes.lines()
    longest = max(map(len, prepared.train), default=0)
    if prepared.context is not None and longest > prepared.context:
        yield (
            f"the longest example has {longest:,} tokens, but the model's context is {prepared.context:,}: "
            f"use --max-length {prepared.context} to find longer ones"
        )


def note_lines(trainable: "TrainableModel") -> Iterator[tuple[str, str]]:
    """Lines on what of the settings and of the model is not as one may expect: `--quiet` does not hide them."""
    for note in trainable.notes:
        yield "note", note


def data_facts(prepared: "PreparedRun") -> dict[str, Any]:
    """Fields of `--json` on the data: the files, and what of them is not trained."""
    dataset, counts = prepared.dataset, prepared.counts
    return {
        "files": [asdict(file) for file in dataset.files],
        "left_out": {problem.place: problem.what for problem in dataset.left_out},
        "skipped": {problem.place: problem.what for problem in prepared.problems},
        "too_long": {"dropped": counts.dropped, "truncated": counts.truncated, "split": counts.split},
        "notes": list(_notes(prepared)),
    }


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def model_lines(
    settings: FinetuneSettings,
    prepared: "PreparedRun",
    trainable: "TrainableModel",
    plan: "RunPlan",
    group: "ProcessGroup",
    expected: "RunEstimate",
) -> Iterator[tuple[str, str]]:
    share = trainable.trained / trainable.total
    kind = settings.method if settings.method == "full" else f"{settings.method} of rank {settings.rank}"
    if prepared.start is not None:
        yield "from", f"{prepared.start.folder}; the optimizer starts afresh"
    yield "training", f"{trainable.trained:,} of {trainable.total:,} parameters ({share:.2%}), {kind}"
    yield from note_lines(trainable)
    yield "memory", expected.memory.verdict
    if expected.alternatives and expected.alternatives.together:
        yield "to fit", f"{expected.alternatives.together.flags}; details: --estimate"
    rows = f"rows of {prepared.row_length} tokens" if settings.batching == "pack" else "examples of one length"
    step = f"{settings.batch} {rows}" + (f" x {settings.accumulate}" if settings.accumulate > 1 else "")
    yield "steps", f"{plan.settings.steps:,} of {step}; {plan.per_epoch:,} per epoch, {plan.epochs:.3g} epochs"
    if group.size > 1:
        yield "processes", f"{group.size}, data-parallel"


def result_lines(settings: FinetuneSettings, finished: "FinishedRun") -> Iterator[tuple[str, str]]:
    state, folder = finished.state, finished.folder
    if finished.result.stopped:
        yield "stopped", f"after step {state.step:,} of {finished.plan.settings.steps:,}; the same command resumes"
        return
    if state.ended_early:
        yield "ended", f"early, at step {state.step:,}: no improvement in {settings.patience} evaluations"
    if state.best_loss is not None and state.best_step == 0:
        yield "validation", f"loss {state.best_loss:.4f} nats per token before training; no evaluation was better"
    elif state.best_loss is not None:
        before = "" if finished.valid_before is None else f"{finished.valid_before:.4f} before training, "
        yield "validation", f"loss {before}{state.best_loss:.4f} at best (step {state.best_step:,}), nats per token"
    yield "tokens", f"{state.tokens:,} trained"
    what = "model" if settings.method == "full" else "adapter"
    best = folder / "best"
    yield what, f"{folder / 'last'}" + (f", best: {best}" if best.exists() else "")
    yield (
        "logs",
        ", ".join(
            str(folder / name) for name in ("metrics.jsonl", "samples.md", "loss.png") if (folder / name).exists()
        ),
    )
    if not finished.plotted:
        yield "no plot", "to get one, pip install 'mlx-suite[plots]'"
    shown = best if best.exists() else folder / "last"
    if settings.method == "full":
        yield "try it", f'mlx-suite generate {shown} "…"'
    else:
        yield "try it", f'mlx-suite generate {settings.model} "…" --adapter {shown}'


def facts_of(finished: "FinishedRun") -> dict[str, Any]:
    """Fields of `--json`."""
    state = finished.state
    return {
        "folder": str(finished.folder),
        "steps": state.step,
        "stopped": finished.result.stopped,
        "ended_early": state.ended_early,
        "trained_tokens": state.tokens,
        "valid_loss_before": finished.valid_before,
        "best_valid_loss": state.best_loss,
        "best_step": state.best_step,
        "notes": list(finished.notes),
    }
