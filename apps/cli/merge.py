"""`mlx-suite merge`: one model from the weights of several."""

import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlx_suite.runtime.errors import UserError, nearest_name
from mlx_suite.runtime.memory import human_bytes
from mlx_suite.runtime.progress import Progress

from .flags import AsJson, Quiet, print_json
from .output import show

if TYPE_CHECKING:
    from mlx_suite.transfer.merge.merging import Merged
    from mlx_suite.transfer.merge.recipe import Recipe
    from mlx_suite.transfer.merge.schedule import Schedule

# Repeated from `transfer.merge.recipe`, so that --help does not import MLX; a test compares them.
METHODS = ("linear", "slerp", "ties", "dare", "task", "model-stock", "karcher", "ema", "liti", "warp")

MILLION = 1_000_000


def _values(names: str, help: str) -> Any:
    return typer.Option(names, metavar="[NAME=]X", help=help)


def merge(
    method: Annotated[
        str, typer.Argument(metavar="METHOD", help=f"{', '.join(METHODS)}; or a recipe in mergekit's YAML.")
    ],
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL…",
            help="Models, and adapters: a folder of one, or of its run. For ema, checkpoints in order.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder of the merged model.", show_default=False)
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Model that the others were finetuned from. Default: the one that adapters name.",
        ),
    ] = None,
    weights: Annotated[
        list[str] | None,
        _values("--weights", "Weight of each model: X, or one per model, X,X. Default: 1 each."),
    ] = None,
    density: Annotated[
        list[str] | None,
        _values("--density", "ties, dare: share of each difference that is kept. Default: 0.2 for ties, 0.5 for dare."),
    ] = None,
    scale: Annotated[
        list[str] | None,
        _values("--lambda", "task, ties, dare: factor of the merged difference. Default: 1."),
    ] = None,
    t: Annotated[
        list[str] | None,
        _values("--t", "slerp, warp: 0 gives the first of two models, 1 the second. Default: 0.5."),
    ] = None,
    eta: Annotated[
        list[str] | None,
        _values("--eta", "liti, warp: part of the way from the base to the model. Default: 0.3."),
    ] = None,
    mu: Annotated[
        list[str] | None,
        _values("--mu", "ema: share of each further checkpoint in the average. Required for it."),
    ] = None,
    election: Annotated[
        bool, typer.Option("--elect-signs", help="dare: average each element's majority sign, as ties does.")
    ] = False,
    normalize: Annotated[
        bool | None,
        typer.Option(
            "--normalize/--no-normalize",
            help="Divide by the sum of the weights. Default: yes for linear, ties and dare --elect-signs.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="dare: seed of the dropped elements.")] = 0,
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Dtype of the weights: float32, bfloat16 or float16. Default: the base's, else the first model's.",
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Model whose tokenizer and chat template are kept, if templates differ. Default: the first with a "
            "template, the base first.",
        ),
    ] = None,
    shard_size: Annotated[
        str, typer.Option(metavar="SIZE", help="Maximum size of a weight file, such as 5GB.")
    ] = "5GB",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Merge models, or adapters of one model, into one.

    Weights are read and written a block of rows at a time, so models of any size and number are merged in a few
    hundred MB of memory. A value X is a number, or a gradient 0:0.5:1 whose points are spread over the layers from
    first to last; NAME= before it limits it to tensors with NAME in their name, and the flag may be repeated. Models
    with different shapes, vocabularies or chat templates are refused with all differences. The folder gets a card
    (README.md) that says what the model was made of.

    Example: `mlx-suite merge linear runs/a runs/b runs/c --out models/soup`

    Example: `mlx-suite merge ties runs/a runs/b --base tiny-llama3 --density 0.3 --out models/both`

    Example: `mlx-suite merge slerp A B --t 0.5 --t self_attn=0:0.3:1 --out models/m`

    Example: `mlx-suite merge recipe.yaml --out models/m`
    """
    from mlx_suite.runtime.device import device, set_limits
    from mlx_suite.runtime.memory import parse_size

    given = {"weight": weights, "density": density, "lambda": scale, "t": t, "eta": eta, "mu": mu}
    typed = {name: each for name, each in given.items() if each}
    if out is None:
        raise UserError("No output folder is given", where="--out", fix="for example, --out models/merged")
    shard_bytes = parse_size(shard_size)
    if not shard_bytes:
        raise UserError(f"--shard-size is {shard_size!r}", where="--shard-size", fix="write it like 5GB or 500MB")
    recipe = _recipe(method, list(models or ()), typed, base)
    options: dict[str, Any] = {
        "normalize": normalize,
        "dtype": dtype,
        "tokenizer": tokenizer,
        "election": election or None,
        "seed": seed or None,
    }
    recipe = replace(recipe, **{name: value for name, value in options.items() if value is not None})
    from mlx_suite.transfer.merge.merging import merge_models

    set_limits(device())
    silent = quiet or as_json
    with nullcontext() if silent else Progress("merge", None, unit="M parameters") as bar:

        def on_tensor(done: int, total: int) -> None:
            if bar is not None:
                bar.total = max(1, total // MILLION)
                bar.update(done // MILLION)

        merged = merge_models(
            recipe,
            out,
            command=shlex.join(["mlx-suite", *sys.argv[1:]]),
            max_shard_bytes=shard_bytes,
            on_tensor=on_tensor,
            progress=not silent,
        )
    if as_json:
        print_json(_facts(merged))
    else:
        show(_lines(merged))


def _recipe(method: str, models: Sequence[str], typed: dict[str, list[str]], base: str | None) -> "Recipe":
    """The recipe of the flags, or of a file."""
    from mlx_suite.transfer.merge.mergekit_recipe import SUFFIXES, read_recipe
    from mlx_suite.transfer.merge.recipe import Recipe, whole_models

    if method.endswith(SUFFIXES):
        if models or typed or base:
            raise UserError(
                "A recipe names its models and parameters itself", where=method, fix="change them in the file"
            )
        return read_recipe(Path(method))
    if method not in METHODS:
        fix = nearest_name(method, METHODS)
        raise UserError(f"There is no merge method {method!r}", where="METHOD", fix=fix)
    if len(set(models)) < len(models):
        twice = sorted({model for model in models if models.count(model) > 1})
        raise UserError(
            f"{', '.join(twice)} is given twice", where="MODEL", fix="name each model once, with a larger weight"
        )
    shared, own = _schedules(typed, len(models))
    return Recipe(method=method, slices=whole_models(models, own), base=base, parameters=shared)


def _schedules(typed: dict[str, list[str]], models: int) -> tuple[dict[str, "Schedule"], list[dict[str, "Schedule"]]]:
    """Parameters of all models and of each one. Raises UserError listing every value that cannot be read."""
    from mlx_suite.transfer.merge.schedule import Rule, Schedule, from_flag

    problems: list[str] = []
    own: list[dict[str, Schedule]] = [{} for _ in range(models)]
    shared: dict[str, Schedule] = {}
    for name, texts in typed.items():
        flag = "--weights" if name == "weight" else f"--{name}"
        rules: list[list[Rule]] = [[] for _ in range(max(models, 1))]
        for text in texts:
            try:
                filter, values = from_flag(text)
            except ValueError:
                problems.append(f"{flag} {text}: expected numbers such as 0.5, 0.7,0.3 or mlp=0:0.5:1")
                continue
            if len(values) not in (1, models):
                problems.append(f"{flag} {text}: {len(values)} values for {models} models")
            elif len(values) > 1 and name not in ("weight", "density"):
                problems.append(f"{flag} {text}: it has one value for all models; write a gradient with colons")
            else:
                for each, value in zip(rules, values if len(values) > 1 else values * len(rules), strict=False):
                    each.append(Rule(value, filter))
        # A value without a name is for the tensors that no other rule names.
        schedules = [Schedule(tuple(sorted(each, key=lambda rule: not rule.filter))) for each in rules]
        if all(schedule == schedules[0] for schedule in schedules):
            shared[name] = schedules[0]
        else:
            for parameters, schedule in zip(own, schedules, strict=True):
                parameters[name] = schedule
    if problems:
        raise UserError("A value cannot be used", details=problems, fix="see mlx-suite merge --help")
    return shared, own


def _facts(merged: "Merged") -> dict[str, Any]:
    facts = merged.facts
    return {
        "folder": str(merged.folder),
        "method": facts.recipe.method,
        "models": dict(facts.digests),
        "notes": {name: list(notes) for name, notes in facts.notes.items()},
        "tensors": merged.tensors,
        "parameters": merged.parameters,
        "dtype": facts.dtype,
        "digest": facts.result,
        "files": merged.shards,
        "peak_bytes": merged.peak_bytes,
    }


def _lines(merged: "Merged") -> list[tuple[str, str]]:
    facts = merged.facts
    files = f"{merged.shards} file{'s' if merged.shards > 1 else ''}"
    largest = human_bytes(merged.largest_bytes)
    notes = [f"{name}: {note}" for name, each in facts.notes.items() for note in each]
    return [
        ("merged", f"{len(facts.recipe.models)} models with {facts.recipe.method}, {merged.parameters:,} parameters"),
        *(("" if number else "note", note) for number, note in enumerate(notes)),
        ("weights", f"{facts.dtype}, digest {facts.result}, {files}"),
        ("memory", f"{human_bytes(merged.peak_bytes)} at most; the largest tensor has {largest} in fp32"),
        ("model", str(merged.folder)),
        ("try it", f'mlx-suite generate {merged.folder} "…"'),
    ]
