"""`mlx-suite perplexity`: how well a model predicts a file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from mlx_suite.runtime.errors import UserError

from .checkpoint import Checkpoint, open_checkpoint
from .flags import AdapterFolder, ModelName
from .labelled import show

if TYPE_CHECKING:
    from mlx_suite.evaluate.passages import Passages
    from mlx_suite.evaluate.perplexity import Perplexity


def perplexity(
    model: ModelName,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A text, or a file or folder in any format that `finetune` reads.")
    ],
    adapter: AdapterFolder = None,
    context: Annotated[
        int | None,
        typer.Option(min=2, metavar="N", help="Tokens that are read at a time; 2,048 or what the model can."),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="New tokens in each window of a long text; half of --context. Fewer take longer."
        ),
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="test, valid or train; without it the first of them that there is."),
    ] = None,
    style: Annotated[str, typer.Option(help="How conversations are written: chat, alpaca, phi3 or plain.")] = "chat",
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N texts.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="A line of JSON for each text.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON for a program to read.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
) -> None:
    """Measure how well a model predicts a text, or the answers of conversations.

    Every token is scored once. A long text is read in windows that overlap, each with BOS in front where the model
    wants it. The figures: nats per token, perplexity, and bits per byte, which models of any vocabulary share.

    Example: `mlx-suite perplexity tiny-llama3 notes.txt`

    Example: `mlx-suite perplexity tiny-llama3 demo/ --adapter runs/mine`
    """
    from mlx_suite.data.dataset import PARTS
    from mlx_suite.data.encode.styles import STYLES
    from mlx_suite.evaluate.passages import read_passages
    from mlx_suite.evaluate.perplexity import measure
    from mlx_suite.runtime.files import write_atomically

    for flag, value, known in (("--part", part, (None, *PARTS)), ("--style", style, STYLES)):
        if value not in known:
            raise UserError(f"{flag} is {value!r}", where=flag, fix=f"use one of {', '.join(filter(None, known))}")
    checkpoint = open_checkpoint(model, quiet, adapter)
    context = _context(checkpoint, context, stride)
    passages = read_passages(
        file, checkpoint.tokenizer, _template(checkpoint, style), style=style, part=part, limit=limit
    )
    with Console(stderr=True, quiet=quiet).status("reading") as status:
        done = 0

        def tell(count: int) -> None:
            nonlocal done
            done += count
            status.update(f"reading, {done:,} windows")

        found = measure(
            checkpoint.model, checkpoint.tokenizer, passages.passages, context=context, stride=stride, tell=tell
        )
    if not found.tokens:
        raise UserError("There is no token to predict", where=file, fix="give a longer text")
    if out is not None:
        rows = (json.dumps(each.as_dict(), ensure_ascii=False) for each in found.passages)
        write_atomically(out, "".join(f"{row}\n" for row in rows))
    if as_json:
        print(json.dumps({"model": checkpoint.name, "adapter": checkpoint.adapter, **_facts(found, passages)}))
    else:
        show(_lines(found, passages))


def _context(checkpoint: Checkpoint, context: int | None, stride: int | None) -> int:
    """How much is read at a time; raises UserError for more than the model can."""
    from mlx_suite.engine import context_length
    from mlx_suite.evaluate.perplexity import CONTEXT

    most = context_length(checkpoint.model)
    chosen = min(most, CONTEXT) if context is None else context
    if chosen > most:
        raise UserError(f"--context is {chosen:,}", where="--context", fix=f"this model reads at most {most:,} tokens")
    if stride is not None and stride > chosen - 1:
        raise UserError(
            f"--stride is {stride:,}", where="--stride", fix=f"it must be below --context, which is {chosen:,}"
        )
    return chosen


def _template(checkpoint: Checkpoint, style: str) -> Any:
    """The chat template where there is one: plain texts need none."""
    try:
        return checkpoint.template if style == "chat" else None
    except UserError:
        return None


def _lines(found: "Perplexity", passages: "Passages") -> Iterator[tuple[str, str]]:
    what = "tokens" if passages.kind == "text" else "tokens of answers"
    yield "scored", f"{found.tokens:,} {what} in {len(found.passages):,} texts ({passages.part}), each once"
    yield "windows", f"{len(found.windows):,} of at most {found.context:,} tokens, {found.stride:,} new ones in each"
    if found.unscored:
        yield "left out", f"the first tokens of {found.unscored:,} texts: the model has no BOS to predict them from"
    error = "" if found.error is None else f" ± {found.error:.4f} (standard error)"
    yield "loss", f"{found.nats:.4f} nats per token{error}"
    interval = "" if found.interval is None else " (95 %: {:,.3f} to {:,.3f})".format(*found.interval)
    yield "perplexity", f"{found.perplexity:,.3f} per token{interval}"
    if found.bits_per_byte is not None:
        yield "bits", f"{found.bits_per_byte:.4f} per byte"


def _facts(found: "Perplexity", passages: "Passages") -> dict[str, Any]:
    return {
        "kind": passages.kind,
        "part": passages.part,
        "texts": len(found.passages),
        "tokens": found.tokens,
        "nats_per_token": found.nats,
        "error": found.error,
        "perplexity": found.perplexity,
        "interval": found.interval,
        "bits_per_byte": found.bits_per_byte,
        "context": found.context,
        "stride": found.stride,
        "windows": len(found.windows),
        "unscored": found.unscored,
    }
