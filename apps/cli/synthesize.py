"""`mlx-suite synthesize`: train an instruction synthesizer, which writes instruction-response pairs from texts."""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlx_suite.runtime.errors import UserError
from mlx_suite.synthesize.train_settings import SynthesizerSettings, check_synthesizer_settings

from .finetune import training_progress
from .finetune_report import facts_of, result_lines
from .flags import AsJson, Quiet
from .help import add, new_app
from .options import option, takes_settings
from .output import show
from .synthesize_run import synthesize_run

if TYPE_CHECKING:
    from mlx_suite.finetune.run import FinishedRun
    from mlx_suite.synthesize.train import PreparedSynthesizer

GROUPS = {
    "Data": (
        "shots",
        "most_examples",
        "max_length",
        "context_weight",
        "valid_share",
        "skip_bad",
        "batch",
        "accumulate",
    ),
    "Trained parameters": ("method", "rank", "alpha", "quantize_base", "recompute"),
    "Steps": (
        *("epochs", "steps", "optimizer", "learning_rate", "schedule", "warmup"),
        *("weight_decay", "clip", "seed"),
    ),
    "Evaluation and logs": ("eval_every", "patience", "save_every", "log_every", "sample_tokens"),
}
"""Flags of the settings, by panel of the help."""
COMMON = ("shots", "max_length", "method", "epochs", "learning_rate", "batch", "seed")

synthesize_app = new_app(
    "synthesize",
    "Instruction Pre-Training (arXiv 2406.14491): instruction-response pairs written from the texts of a corpus.",
)


@takes_settings(SynthesizerSettings, GROUPS, common=COMMON)
def train(
    typed: Mapping[str, Any],
    model: Annotated[str, option(SynthesizerSettings, "model", argument="MODEL")],
    data: Annotated[list[str], option(SynthesizerSettings, "data", argument="DATA…")],
    out: Annotated[str, option(SynthesizerSettings, "out", "--out", "-o", metavar="DIR")] = "",
    preview: Annotated[
        bool, typer.Option("--preview", help="Show chains with the trained tokens marked; train nothing.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a base model to write instruction-response pairs from a text.

    DIR gets the synthesizer (best/, last/), its settings, a log, a plot of the losses and samples of pairs. The loss is
    on the pairs only. A stopped run resumes with the same command and ends with the same weights.

    Example: `mlx-suite synthesize train mistralai/Mistral-7B-v0.1 squad.json hotpot.json --out runs/synth`

    Example: `mlx-suite synthesize train tiny-llama3 microworld:2000 --out runs/synth`

    Example: `mlx-suite synthesize train tiny-llama3 squad.json --preview`
    """
    settings = SynthesizerSettings(model=model, data=tuple(data), out=out, **typed)
    check_synthesizer_settings(settings)
    if preview:
        _preview(settings, as_json)
        return
    if not settings.out:
        raise UserError("No output folder is given", where="--out", fix="for example, --out runs/synth")
    _train(settings, as_json, quiet)


add(synthesize_app, train)
add(synthesize_app, synthesize_run, "run")


def _preview(settings: SynthesizerSettings, as_json: bool) -> None:
    """Print chains without training."""
    from rich.console import Console

    from mlx_suite.finetune.preview import findings, preview, summarise
    from mlx_suite.hub.resolve import resolve_texts
    from mlx_suite.synthesize.train import prepare_synthesizer

    prepared = prepare_synthesizer(replace(settings, skip_bad=True), folder=resolve_texts(settings.model))
    found = findings(prepared.settings.finetune, prepared.run)
    documents, tokenizer = prepared.run.train, prepared.run.tokenizer
    if as_json:
        problems = {heading: list(map(str, problems)) for heading, problems in found}
        facts = {"preview": summarise(documents, tokenizer).as_dict(), "problems": problems}
        print(json.dumps(facts | prepared.description, ensure_ascii=False))
        return
    console = Console(highlight=False)
    preview(documents, tokenizer, console=console, report=list(_data_lines(prepared)), findings=found, rows=3)


def _train(settings: SynthesizerSettings, as_json: bool, quiet: bool) -> None:
    from mlx_suite.finetune.estimate.estimate import estimate_run
    from mlx_suite.runtime.device import device, set_limits
    from mlx_suite.synthesize.train import prepare_synthesizer, train_synthesizer
    from mlx_suite.training.process_group import join

    group = join()
    set_limits(device())
    prepared = prepare_synthesizer(settings)
    whole = prepared.settings.finetune
    # Estimated here because loading the model would reduce the free memory.
    expected = estimate_run(replace(whole, batch=-(-whole.batch // group.size)), prepared.run, with_time=False)
    expected.refuse_if_infeasible()
    lines = list(_data_lines(prepared))
    with training_progress(
        whole, prepared.run, group, expected, quiet=quiet or as_json, data=lines, name="synthesize train"
    ) as callbacks:
        finished = train_synthesizer(prepared, callbacks=callbacks, group=group)
    if not group.is_rank_zero:
        return
    if as_json:
        print(json.dumps(facts_of(finished) | prepared.description, ensure_ascii=False))
    else:
        show(_result_lines(settings, finished))
    if finished.result.stopped:
        sys.exit(130)


def _data_lines(prepared: "PreparedSynthesizer") -> Iterator[tuple[str, str]]:
    """Lines on the datasets, what was not used of them, and the chains."""
    for dataset in prepared.datasets:
        pairs = f" with {dataset.pairs:,} pairs" if dataset.pairs else ""
        yield "read", f"{dataset.name}: {len(dataset.examples):,} texts{pairs}, {dataset.shape}"
        for reason, count in dataset.skipped.items():
            yield "skipped", f"{dataset.name}: {count:,} × {reason}"
        if dataset.problems:
            yield "left out", f"{dataset.name}: {len({problem.place for problem in dataset.problems}):,} with defects"
    for name, count in prepared.train.omitted.items():
        yield "omitted", f"{name}: {count:,} texts beyond --most-examples, those with fewest pairs"
    run = prepared.run
    if run.too_long:
        yield "too long", f"{len(run.too_long):,} texts dropped: raise --max-length to keep them"
    longest = max(map(len, run.train))
    if run.context is not None and longest > run.context:
        yield (
            "note",
            f"the longest chain has {longest:,} tokens, but the model's context is {run.context:,}: "
            f"use --max-length {run.context}",
        )
    yield (
        "chains",
        f"{len(run.train):,} with {prepared.train.examples:,} texts to train on, {len(run.valid):,} to validate; "
        f"{run.trained_tokens:,} of {run.tokens:,} tokens are trained ({run.trained_tokens / run.tokens:.0%})",
    )


def _result_lines(settings: SynthesizerSettings, finished: "FinishedRun") -> Iterator[tuple[str, str]]:
    for label, line in result_lines(settings.finetune, finished):
        if label != "try it":
            yield label, line
            continue
        best = finished.folder / "best"
        yield (
            label,
            f"mlx-suite synthesize run {best if best.exists() else finished.folder / 'last'} CORPUS --out augmented",
        )
