"""`mlx-suite models`: list local models, show a model's details, download models."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.memory import human_bytes

from .flags import AsJson, resumable
from .help import HelpCommand, new_app
from .import_model import import_model

if TYPE_CHECKING:
    from mlx_suite.checkpoints.description import ModelDescription
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

    description = describe(resolve(model))
    if as_json:
        _print_json(asdict(description))
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in _facts(description):
        table.add_row(label, Text(value))
    console = Console()
    console.print(table)
    console.print(Text(f"\n{description.path}"), soft_wrap=True)  # for copying


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
    from mlx_suite.hub import resolve as hub

    name, written = hub.split_revision(repo)
    if written and revision and written != revision:
        raise UserError(
            what=f"Two revisions are given: {written!r} and {revision!r}",
            where=f"{repo} --revision {revision}",
            fix="give only one",
        )
    shipped = {entry.name: entry.path for entry in hub.shipped_models()}
    with resumable("What was downloaded is kept"):
        folder = shipped.get(name) or hub.pull(name, revision or written)
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


def _facts(model: "ModelDescription") -> list[tuple[str, str]]:
    """(label, text) lines of `info`, without those that the model's files do not state."""
    facts = [("model type", model.model_type), ("architecture", model.architecture)]
    if model.parameters is not None:
        facts.append(("parameters", f"{_count(model.parameters)} ({model.parameters:,})"))
    facts.append(("weights", _weights(model)))
    facts.append(("size on disk", human_bytes(model.size_bytes)))
    facts.append(("layers", _number(model.layers)))
    if model.heads is not None:
        facts.append(("heads", f"{model.heads} ({model.kv_heads} for keys and values)"))
    facts.append(("head dim", _number(model.head_dim)))
    facts.append(("hidden size", _number(model.hidden_size)))
    facts.append(("vocabulary", _number(model.vocab_size)))
    facts.append(("context", f"{model.context:,} tokens" if model.context else None))
    facts.append(("window", _window(model)))
    facts.append(("KV cache", _kv_cache(model)))
    facts.append(("chat template", "yes" if model.chat_template else "no"))
    named = (f"{t.text} ({t.id})" if t.text else str(t.id) for t in model.stop_tokens)
    stops = ", ".join(named)
    facts.append(("stop tokens", stops or "none stated"))
    return [(label, value) for label, value in facts if value]


def _weights(model: "ModelDescription") -> str:
    return f"{model.quantization}, {model.dtype}" if model.quantization else model.dtype


def _window(model: "ModelDescription") -> str | None:
    if model.window is None:
        return None
    layers = f" in {model.window_layers} of {model.layers} layers" if model.window_layers else ""
    return f"{model.window:,} tokens{layers}"


def _kv_cache(model: "ModelDescription") -> str | None:
    if model.kv_bytes_per_token is None:
        return None
    text = f"{human_bytes(model.kv_bytes_per_token)} per token"
    past = model.kv_bytes_per_token_past_window
    if model.window is None or past is None or past == model.kv_bytes_per_token:
        return text
    return f"{text}, {human_bytes(past)} past the window" if past else f"{text}, none past the window"


def _number(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"


def _count(number: float) -> str:
    """Format with three digits and a unit, such as 8.03 B."""
    for scale, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return f"{number:.0f}"


def _print_json(value: dict[str, Any]) -> None:
    typer.echo(json.dumps(value, indent=2, default=_jsonable))


def _jsonable(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
