"""`mlx-suite finetune`: train a model on a file of examples."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from mlx_suite.finetune.settings import FinetuneSettings, check_settings
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.progress import Progress
from mlx_suite.runtime.settings_file import read_settings, required, settings_from

from .finetune_report import data_facts, data_lines, facts_of, model_lines, not_trained_lines, note_lines, result_lines
from .flags import AsJson, ConfigFile, Estimate, Preview, Quiet
from .options import Flag, option, takes_settings
from .output import show

if TYPE_CHECKING:
    from mlx_suite.finetune.estimate.estimate import RunEstimate, TeacherShape
    from mlx_suite.finetune.model import TrainableModel
    from mlx_suite.finetune.prepare import PreparedRun
    from mlx_suite.finetune.run import FinishedRun, RunCallbacks, RunPlan
    from mlx_suite.training.checkpoint import State
    from mlx_suite.training.process_group import ProcessGroup

GROUPS = {
    "Data": (
        "format",
        "columns",
        "skip_bad",
        "split",
        "valid",
        "valid_share",
        "style",
        "template_args",
        "reasoning",
        "read_special_tokens",
        "train_on",
        "max_length",
        "too_long",
    ),
    "Rows": ("batching", "row_length", "batch", "accumulate"),
    "Trained parameters": (
        *("start_from", "method", "rank", "alpha", "rslora", "dropout", "modules", "layers"),
        *("train_new_tokens", "quantize_base", "neftune", "recompute"),
    ),
    "Steps": (
        *("epochs", "steps", "optimizer", "learning_rate", "schedule", "warmup", "floor"),
        *("weight_decay", "clip", "ema", "anchor", "seed"),
    ),
    "Evaluation and logs": (
        *("eval_every", "patience", "save_every", "log_every", "sample_tokens", "sampling", "loggers"),
    ),
}
"""Flags of the settings, by panel of the help."""
FLAGS = {
    "start_from": Flag(names=("--from",), metavar="DIR"),
    "columns": Flag(names=("--column",), metavar="NAME=COLUMN", repeated=True),
    "template_args": Flag(names=("--template-arg",), metavar="NAME=VALUE", repeated=True),
    "sampling": Flag(names=("--sample",), metavar="NAME=VALUE", repeated=True),
}
EXAMPLE = "model: tiny-llama3"
"""A line of a configuration file, for the error about a file without any."""
COMMON = ("valid", "style", "max_length", "method", "rank", "epochs", "learning_rate", "batch")


@takes_settings(FinetuneSettings, GROUPS, FLAGS, COMMON)
def finetune(
    typed: Mapping[str, Any],
    model: Annotated[str | None, option(FinetuneSettings, "model", argument="MODEL")] = None,
    data: Annotated[str | None, option(FinetuneSettings, "data", argument="DATA")] = None,
    out: Annotated[str | None, option(FinetuneSettings, "out", "--out", "-o", metavar="DIR")] = None,
    config: ConfigFile = None,
    prompt: Annotated[list[str] | None, option(FinetuneSettings, "prompts", "--prompt", metavar="TEXT")] = None,
    preview: Preview = False,
    estimate: Estimate = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a model on a file of examples.

    DIR gets the adapter (best/, last/), the settings (config.yaml), a log (metrics.jsonl), a plot of the losses and
    sample responses (samples.md). A stopped run resumes with the same command and ends with the same weights.

    Example: `mlx-suite finetune tiny-llama3 demo/ --out runs/mine`

    Example: `mlx-suite finetune tiny-llama3 rows.jsonl --preview`

    Example: `mlx-suite finetune --config recipe.yaml --out runs/mine`

    Example: `mlx-suite finetune tiny-llama3 more/ --from runs/mine --out runs/next`
    """
    named = {"model": model, "data": data, "out": out, "prompts": prompt or None}
    settings, origin = read_finetune_settings(config, dict(typed) | {k: v for k, v in named.items() if v is not None})
    if preview or estimate:
        inspect(settings, preview, estimate, as_json)
        return
    require_out(settings)
    train(settings, origin, as_json, quiet, lambda **how: _finetune(settings, **how))


Settings = TypeVar("Settings", bound=FinetuneSettings)


def settings_of(
    kind: type[Settings], config: Path | None, typed: Mapping[str, Any], *, usage: str
) -> tuple[Settings, dict[str, str]]:
    """Read the settings of a run, and the origin of each one: a flag, the file, or the default."""
    filed = read_settings(config, kind, EXAMPLE) if config else {}
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in typed.items()}
    sampled = _mapping(given.pop("sampling", None) or ())
    given |= {"sampling": sampled} if sampled else {}
    flags = settings_from(given, "command line", kind)
    values = {**filed, **flags}
    if sampled and "sampling" in filed:
        changes = {name: getattr(flags["sampling"], name) for name in sampled}
        values["sampling"] = replace(filed["sampling"], **changes)
    missing = [name for name in required(kind) if name not in values]
    if missing:
        raise UserError(f"No {' and no '.join(missing)} is given", fix=f"{usage}, or --config FILE")
    origin = dict.fromkeys(filed, config.name if config else "") | dict.fromkeys(flags, "flag")
    settings = kind(**values)
    if settings.start_from:
        from mlx_suite.finetune.starting_point import inherited, starting_point

        start = starting_point(settings.start_from)
        settings = inherited(settings, start, given=values)
        origin |= {name: f"from {settings.start_from}" for name in start.fixed if name not in origin}
    return settings, origin


def origin_named(origin: Mapping[str, str]) -> dict[str, str]:
    """Origins as an error names them."""
    return {name: "command line" if it == "flag" else it for name, it in origin.items()}


def require_out(settings: FinetuneSettings) -> None:
    """Raise UserError without an output folder."""
    if not settings.out:
        raise UserError("No output folder is given", where="--out", fix="for example, --out runs/mine")


def read_finetune_settings(config: Path | None, typed: Mapping[str, Any]) -> tuple[FinetuneSettings, dict[str, str]]:
    """Read and check the settings of a finetuning run, and the origin of each one."""
    settings, origin = settings_of(FinetuneSettings, config, typed, usage="mlx-suite finetune MODEL DATA --out DIR")
    check_settings(settings, origin_named(origin))
    return settings, origin


def _mapping(pairs: Iterable[str]) -> dict[str, Any]:
    """NAME=VALUE pairs as a mapping; the values of a name that is repeated are a list."""
    values: dict[str, Any] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        name = name.replace("-", "_")
        values[name] = [*values[name], value] if name in values else [value]
    return {name: each if name in ("stop", "logit_bias") or len(each) > 1 else each[0] for name, each in values.items()}


def _finetune(settings: FinetuneSettings, **how: Any) -> "FinishedRun":
    from mlx_suite.finetune.run import finetune as run

    return run(settings, **how)


def inspect(
    settings: FinetuneSettings,
    preview: bool,
    estimate: bool,
    as_json: bool,
    teacher: "Callable[[], TeacherShape] | None" = None,
) -> None:
    """Print the preview and the estimate without training; `teacher` gives the shape of a teacher."""
    from rich.console import Console

    from mlx_suite.finetune.estimate.estimate import estimate_run
    from mlx_suite.finetune.prepare import prepare
    from mlx_suite.finetune.preview import findings, lenient, summarise
    from mlx_suite.finetune.preview import preview as show_rows
    from mlx_suite.hub.resolve import resolve_texts

    prepared = prepare(lenient(settings), folder=resolve_texts(settings.model))
    found = findings(settings, prepared)
    shape = teacher() if teacher and estimate else None
    if as_json:
        facts: dict[str, Any] = {}
        if preview:
            facts["preview"] = summarise(prepared.train, prepared.tokenizer).as_dict()
            facts["data"] = data_facts(prepared)
            facts["problems"] = {heading: list(map(str, problems)) for heading, problems in found}
        if estimate:
            facts["estimate"] = estimate_run(settings, prepared, teacher=shape).as_dict()
        print(json.dumps(facts, ensure_ascii=False))
        return
    console = Console(highlight=False)
    if preview:
        show_rows(
            prepared.train, prepared.tokenizer, console=console, report=list(data_lines(prepared)), findings=found
        )
    if estimate:
        console.print(estimate_run(settings, prepared, teacher=shape).render())


def train(
    settings: FinetuneSettings,
    origin: Mapping[str, str],
    as_json: bool,
    quiet: bool,
    run: "Callable[..., FinishedRun]",
    *,
    teacher: "Callable[[], TeacherShape] | None" = None,
    name: str = "finetune",
) -> None:
    """Start or resume a run and print its result.

    Args:
        run: Trains, called with `prepared`, `origin`, `callbacks` and `group`.
        teacher: Gives the shape of the teacher in memory beside the model.
        name: Name of the job in the progress line.
    """
    from mlx_suite.finetune.estimate.estimate import estimate_run
    from mlx_suite.finetune.prepare import prepare
    from mlx_suite.runtime.device import device, set_limits
    from mlx_suite.training.process_group import join

    group = join()
    set_limits(device())
    prepared = prepare(settings)
    # Estimated here because loading the model would reduce the free memory.
    expected = estimate_run(
        replace(settings, batch=-(-settings.batch // group.size)),
        prepared,
        with_time=False,
        teacher=teacher() if teacher else None,
    )
    expected.refuse_if_infeasible()
    if (quiet or as_json) and group.is_rank_zero:
        show(not_trained_lines(prepared), sys.stderr)
    with training_progress(settings, prepared, group, expected, quiet=quiet or as_json, name=name) as callbacks:
        finished = run(prepared=prepared, origin=origin, callbacks=callbacks, group=group)
    if not group.is_rank_zero:
        return
    if as_json:
        started_from = None if prepared.start is None else prepared.start.facts()
        print(json.dumps({**facts_of(finished), "started_from": started_from, "data": data_facts(prepared)}))
    else:
        show(result_lines(settings, finished))
    if finished.result.stopped:
        sys.exit(130)


@contextmanager
def training_progress(
    settings: FinetuneSettings,
    prepared: "PreparedRun",
    group: "ProcessGroup",
    expected: "RunEstimate",
    *,
    quiet: bool,
    data: Iterable[tuple[str, str]] | None = None,
    name: str = "finetune",
) -> Iterator["RunCallbacks"]:
    """Callbacks that print to stderr: the data, the model, a line at each evaluation, and a progress line.

    `data` replaces the lines on the data, `name` the name in the progress line.
    """
    from mlx_suite.finetune.run import RunCallbacks

    if not group.is_rank_zero:
        yield RunCallbacks()
        return
    if quiet:
        yield RunCallbacks(begin=lambda trainable, plan, state: show(note_lines(trainable), sys.stderr))
        return
    bars: list[Progress] = []
    facts: dict[str, str] = {}

    def begin(trainable: "TrainableModel", plan: "RunPlan", state: "State") -> None:
        show(data_lines(prepared) if data is None else data, sys.stderr)
        show(model_lines(settings, prepared, trainable, plan, group, expected), sys.stderr)
        if state.step:
            show([("resumed", f"from step {state.step:,}")], sys.stderr)
        bar = Progress(name, plan.settings.steps, unit="steps", done=state.step)
        bars.append(bar.__enter__())

    def step(number: int, loss: float, trained: int) -> None:
        bars[0].update(number, loss=f"{loss:.3f}", **facts)

    def line(entry: Mapping[str, Any]) -> None:
        if entry["kind"] == "valid":
            if bars:
                best = "  best so far" if entry["best"] and entry["step"] else ""
                bars[0].note(f"{'step':<5}{entry['step']:>6,}  validation loss {entry['loss']:.4f}{best}")
        else:
            facts.update(tokens=f"{entry['tokens_per_second']:,}/s", peak=f"{entry['peak_bytes'] / 1e9:.2f} GB")

    try:
        yield RunCallbacks(begin=begin, step=step, line=line)
    finally:
        for bar in bars:
            bar.__exit__(None, None, None)
