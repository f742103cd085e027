"""`mlx-suite models`: list local models, show a model's details, download models."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.memory import human_bytes

from .flags import AsJson, resumable
from .help import HelpCommand, new_app
from .import_model import import_model

if TYPE_CHECKING:
    from mlx_suite.hub.stored_model import StoredModel

models_app = new_app("models", "List models, show a model's details, download one, or import a GGUF file.")
models_app.command("import", cls=HelpCommand)(import_model)


@models_app.command("list", cls=HelpCommand)
def list_models(as_json: AsJson = False) -> None:
    """List the models on this machine: shipped with mlx-suite, downloaded from the hub, by Ollama or by LM Studio.

    Every other command takes the names in the last column as MODEL. Models downloaded by mlx-lm or transformers are
    listed too, because all share one cache.

    Example: `mlx-suite models list --json`
    """
    # Imported here to keep `--help` fast: the hub's client takes long to import.
    from mlx_suite.hub import resolve as hub
    from mlx_suite.hub.stores import stored_models

    shipped, cached, stored = hub.shipped_models(), hub.cached_models(), stored_models()
    if as_json:
        _print_json(
            {
                "shipped": [asdict(model) for model in shipped],
                "cached": [asdict(model) for model in cached],
                "stored": [asdict(model) for model in stored],
            }
        )
        return
    rows = [(human_bytes(m.size_bytes), m.model_type or "?", "shipped", m.name) for m in shipped]
    for model in cached:
        name = model.repo if model.revision == "main" else f"{model.repo}@{model.revision}"
        state = "cached" if model.complete else "partial"
        rows.append((human_bytes(model.size_bytes), model.model_type or "?", state, name))
    _print_rows(("size", "type", "where", "model"), rows)
    if stored:
        typer.echo()
        _print_rows(("size", "type", "weights", "licence", "where", "model"), [_stored_row(model) for model in stored])
    for entry in stored:
        if entry.problem:
            typer.echo(f"\n{entry.name}: {entry.problem}\n  fix: {entry.fix}")
    if any(not model.complete for model in cached):
        typer.echo("\nTo complete a partial model: mlx-suite models pull OWNER/REPO")
    if not cached:
        typer.echo("\nTo download a model: mlx-suite models pull OWNER/REPO")


@models_app.command("info", cls=HelpCommand)
def show_info(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A name from `models list`, a folder, a GGUF file, or OWNER/REPO[@REVISION]."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Show a model's architecture, size and memory needs, without loading it.

    Layers, heads and context come from its config, the parameter count from the headers of its weight files. "KV cache"
    is the memory per token of a conversation.

    Example: `mlx-suite models info tiny-llama3`
    """
    from mlx_suite.checkpoints.description import describe
    from mlx_suite.hub.resolve import resolve

    from .model_facts import model_facts, print_facts

    description = describe(resolve(model))
    if as_json:
        _print_json(asdict(description))
        return
    print_facts(model_facts(description))
    Console().print(Text(f"\n{description.path}"), soft_wrap=True)  # for copying


@models_app.command("check", cls=HelpCommand)
def check_model(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="OWNER/REPO[@REVISION], OWNER/REPO/FILE.gguf, a folder, a GGUF file, ollama:NAME or lmstudio:NAME.",
        ),
    ],
    context: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Tokens of the conversation. Default: 4,096, or the model's context."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge a model before it is downloaded: what it is, whether it runs, how much memory, how fast at most.

    Reads headers only: of a repository on the hub one to eight megabytes per weight file. "speed" is the limit set by
    memory bandwidth for one conversation; actual decoding reaches 60 to 90 % of it. The exit status is 1 if the model
    does not run on this machine.

    Example: `mlx-suite models check Qwen/Qwen3-0.6B`
    """
    from mlx_suite.hub.check import check_model as judge

    from .model_facts import check_facts, print_facts

    checked = judge(model, context)
    if as_json:
        _print_json(asdict(checked) | {"fits": checked.fits})
    else:
        print_facts(check_facts(checked))
    if checked.problems or checked.fits is False:
        raise typer.Exit(1)


@models_app.command("pull", cls=HelpCommand)
def pull_model(
    repo: Annotated[str, typer.Argument(metavar="OWNER/REPO", help="A repository of the Hugging Face hub.")],
    revision: Annotated[
        str | None,
        typer.Option(help="Branch, tag or full commit hash. Default: main.", metavar="REV"),
    ] = None,
) -> None:
    """Download a model from the hub, or update the local copy.

    Downloads only config files, the tokenizer and safetensors weights, never code. If interrupted, the same command
    resumes the download. Prints the model's folder.

    For a gated model, accept its license on the model's page, then run `hf auth login`. HF_HOME moves the cache,
    HF_ENDPOINT sets another hub, HF_HUB_OFFLINE=1 turns off network access.

    Example: `mlx-suite models pull meta-llama/Llama-3.2-1B-Instruct`
    """
    from mlx_suite.hub.pull import pull as download
    from mlx_suite.hub.resolve import shipped_models, split_revision

    name, written = split_revision(repo)
    if written and revision and written != revision:
        raise UserError(
            what=f"Two revisions are given: {written!r} and {revision!r}",
            where=f"{repo} --revision {revision}",
            fix="give only one",
        )
    shipped = {entry.name: entry.path for entry in shipped_models()}
    with resumable("What was downloaded is kept"):
        folder = shipped.get(name) or download(name, revision or written)
    typer.echo(str(folder))


def _print_rows(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print columns, the first right-aligned; the last one is never truncated, so that it can be copied."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header) - 1)]
    console = Console()
    for number, (first, *middle, last) in enumerate((header, *rows)):
        cells = [first.rjust(widths[0])]
        cells += [cell.ljust(width) for cell, width in zip(middle, widths[1:], strict=True)]
        line = Text("  ".join((*cells, last)), style="" if number else "bold")
        console.print(line, soft_wrap=True)


def _stored_row(model: "StoredModel") -> tuple[str, ...]:
    return (
        human_bytes(model.size_bytes),
        model.model_type or "?",
        model.quantization or "?",
        model.license or "?",
        f"{model.store}, {'unusable' if model.problem else 'ready'}",
        model.name,
    )


def _print_json(value: dict[str, Any]) -> None:
    typer.echo(json.dumps(value, indent=2, default=_jsonable))


def _jsonable(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
