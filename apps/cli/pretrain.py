"""`mlx-suite pretrain`: train a new model on a corpus, or a checkpoint further."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from mlx_suite.pretrain.settings import PretrainSettings, check_settings
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.progress import Progress
from mlx_suite.runtime.settings_file import read_settings, required, settings_from

from .flags import AsJson, Quiet, print_json, resumable
from .output import show
from .pretrain_report import facts_of, key_lines, plan_facts, plan_lines, result_lines, size_lines

if TYPE_CHECKING:
    from mlx_suite.pretrain.run import PreparedRun, RunCallbacks
    from mlx_suite.training.checkpoint import State
    from mlx_suite.training.process_group import ProcessGroup

EXAMPLE = "size: 4"
"""A line of a configuration file, for the error about a file without any."""


def pretrain(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="YAML file of settings.", show_default=False)
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", metavar="DIR", help="Run folder; created if missing, resumed if not.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set a key of the file to a YAML value; may be repeated."),
    ] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Tokenize the corpus and print the plan and its memory; train nothing.")
    ] = False,
    leaks: Annotated[
        list[str] | None,
        typer.Option(
            "--leaks",
            metavar="FILE",
            help="Report which items of this evaluation or held-out file occur in the corpus; train nothing. May be "
            "repeated.",
        ),
    ] = None,
    sizes: Annotated[bool, typer.Option("--sizes", help="List the models that `size` makes, and exit.")] = False,
    keys: Annotated[bool, typer.Option("--keys", help="List the keys of CONFIG, and exit.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a new model on a corpus, or a checkpoint further (continual pretraining).

    CONFIG names the model (size, config or checkpoint) and the data; --keys lists every key. DIR gets the
    model (best/, last/), the settings and what they follow from (config.yaml), a log with losses and bits per byte
    (metrics.jsonl), a plot and continuations (samples.md). A stopped run resumes with the same command and ends with
    the same weights.

    Example: `mlx-suite pretrain tiny.yaml --out runs/tiny`

    Example: `mlx-suite pretrain tiny.yaml --out runs/deeper --set size=6 --set tokens=2e7`

    Example: `mlx.launch -n 2 -- mlx-suite pretrain tiny.yaml --out runs/tiny`
    """
    if keys:
        print("\n".join(key_lines(PretrainSettings)))
        return
    if sizes:
        _show_sizes(as_json)
        return
    settings, origin = _settings(config, out, changes or [])
    if leaks:
        _show_leaks(settings, leaks, as_json, quiet)
        return
    if not settings.out:
        raise UserError("No output folder is given", where="--out", fix="for example, --out runs/mine")
    if estimate:
        _estimate(settings, origin, as_json)
        return
    _train(settings, origin, as_json, quiet)


def _settings(config: Path | None, out: str | None, changes: Sequence[str]) -> tuple[PretrainSettings, dict[str, str]]:
    """The settings, and the origin of each one: the file, a flag, or the default."""
    if config is None:
        raise UserError("No configuration file is given", fix="mlx-suite pretrain CONFIG --out DIR")
    filed = read_settings(config, PretrainSettings, EXAMPLE)
    flags = settings_from(_parsed(changes), "--set", PretrainSettings) | ({} if out is None else {"out": out})
    values = filed | flags
    missing = [name for name in required(PretrainSettings) if name not in values]
    if missing:
        raise UserError(f"The configuration sets no {' and no '.join(missing)}", where=str(config), fix="add it")
    origin = dict.fromkeys(filed, config.name) | dict.fromkeys(flags, "flag")
    settings = PretrainSettings(**values)
    check_settings(settings, {name: "command line" if it == "flag" else str(config) for name, it in origin.items()})
    return settings, origin


def _parsed(changes: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE pairs with their values parsed as YAML. Raises UserError listing all that are none."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    for change in changes:
        key, equals, text = change.partition("=")
        try:
            values[key] = yaml.safe_load(text)
        except yaml.YAMLError:
            equals = ""
        if not equals or not key:
            problems.append(f"{change!r} is not KEY=VALUE with a YAML value")
    if problems:
        raise UserError("A --set flag is invalid", where="--set", details=problems, fix="for example, --set size=6")
    return values


def _show_sizes(as_json: bool) -> None:
    from mlx_suite.pretrain.size import size_table

    table = size_table()
    if as_json:
        print(json.dumps([dict(row) for row in table]))
    else:
        print("\n".join(size_lines(table)))


def _show_leaks(settings: PretrainSettings, files: Sequence[str], as_json: bool, quiet: bool) -> None:
    from rich.console import Console

    from mlx_suite.curation.duplicates.decontamination import Contamination
    from mlx_suite.pretrain.leaks import find_leaks

    with Console(stderr=True, quiet=quiet or as_json).status("searching") as status:
        report = find_leaks(
            settings.data,
            Contamination.from_files(files),
            tell=lambda texts: status.update(f"searching: {texts:,} texts"),
        )
    if as_json:
        print_json(report.as_dict())
    else:
        print("\n".join(report.lines))


def _estimate(settings: PretrainSettings, origin: Mapping[str, str], as_json: bool) -> None:
    from mlx_suite.pretrain.run import prepare_run
    from mlx_suite.runtime.lock import folder_lock

    with folder_lock(settings.out):
        prepared = prepare_run(settings, origin=origin)
    if as_json:
        print(json.dumps(plan_facts(prepared)))
    else:
        show(plan_lines(prepared))


def _train(settings: PretrainSettings, origin: Mapping[str, str], as_json: bool, quiet: bool) -> None:
    from mlx_suite.pretrain.run import pretrain as run
    from mlx_suite.runtime.device import device, set_limits
    from mlx_suite.training.process_group import join

    group = join()
    set_limits(device())
    with resumable("What was tokenized is kept"), _progress(group, quiet=quiet or as_json) as callbacks:
        finished = run(settings, origin=origin, callbacks=callbacks, group=group)
    if not group.is_rank_zero:
        return
    if as_json:
        print(json.dumps(facts_of(finished)))
    else:
        show(result_lines(finished))
    if finished.result.stopped:
        sys.exit(130)


@contextmanager
def _progress(group: "ProcessGroup", quiet: bool) -> Iterator["RunCallbacks"]:
    """Callbacks that print to stderr: the corpus, the plan, a line at each evaluation, and a progress line."""
    from mlx_suite.pretrain.run import RunCallbacks

    if quiet or not group.is_rank_zero:
        yield RunCallbacks()
        return
    bars: list[Progress] = []
    facts: dict[str, str] = {}
    tokenized: dict[str, Progress] = {}

    def end() -> None:
        for bar in (*bars, *tokenized.values()):
            bar.__exit__(None, None, None)
        bars.clear()
        tokenized.clear()

    def tokenizing(part: str, documents: int, text_bytes: int) -> None:
        if part not in tokenized:
            end()
            tokenized[part] = Progress(f"tokenize {part}", None, unit="documents").__enter__()
        tokenized[part].update(documents, text=f"{text_bytes / 1e6:,.1f} MB")

    def begin(prepared: "PreparedRun", state: "State") -> None:
        end()
        show(plan_lines(prepared, group.size), sys.stderr)
        if state.step:
            show([("resumed", f"from step {state.step:,}")], sys.stderr)
        bars.append(Progress("pretrain", prepared.plan.steps, unit="steps", done=state.step).__enter__())

    def step(number: int, loss: float, trained: int) -> None:
        bars[0].update(number, loss=f"{loss:.3f}", **facts)

    def line(entry: Mapping[str, Any]) -> None:
        if entry["kind"] == "valid":
            best = "  best so far" if entry["best"] and entry["step"] else ""
            bars[0].note(
                f"{'step':<5}{entry['step']:>6,}  validation loss {entry['loss']:.4f}  "
                f"{entry['bits_per_byte']:.4f} bits per byte{best}"
            )
        else:
            facts.update(tokens=f"{entry['tokens_per_second']:,}/s", peak=f"{entry['peak_bytes'] / 1e9:.2f} GB")

    try:
        yield RunCallbacks(tokenizing=tokenizing, begin=begin, step=step, line=line)
    finally:
        end()
