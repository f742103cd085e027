"""`mlx-suite perplexity`: perplexity and bits per byte of a model on a file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from mlx_suite.runtime.errors import UserError

from .checkpoint import Checkpoint, open_checkpoint
from .flags import AdapterFolder, AsJson, ModelName, Quiet, check_choice
from .output import show

if TYPE_CHECKING:
    from mlx_suite.evaluate.passages import Passages
    from mlx_suite.evaluate.perplexity import Perplexity


def perplexity(
    model: ModelName,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A text file, or a dataset in any format that `finetune` reads.")
    ],
    adapter: AdapterFolder = None,
    context: Annotated[
        int | None,
        typer.Option(
            min=2, metavar="N", help="Window length in tokens. Default: 2,048, or the model's context if shorter."
        ),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Tokens scored per window of a long text; fewer is slower. Default: half of --context.",
        ),
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="test, valid or train. Default: the first of these that the data has."),
    ] = None,
    style: Annotated[str, typer.Option(help="Prompt style of conversations: chat, alpaca, phi3 or plain.")] = "chat",
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Use only the first N texts.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="JSONL file with one line per text.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure how well a model predicts a text, or the responses of conversations.

    Every token is scored once. A long text is split into overlapping windows, each with BOS if the model uses it.
    Reports nats per token, perplexity, and bits per byte, which can be compared across vocabularies.

    Example: `mlx-suite perplexity tiny-llama3 notes.txt`

    Example: `mlx-suite perplexity tiny-llama3 demo/ --adapter runs/mine`
    """
    from mlx_suite.data.dataset import PARTS
    from mlx_suite.data.encode.styles import STYLES
    from mlx_suite.evaluate.passages import read_passages
    from mlx_suite.evaluate.perplexity import measure
    from mlx_suite.runtime.files import write_atomically

    check_choice("--part", part, (None, *PARTS))
    check_choice("--style", style, STYLES)
    checkpoint = open_checkpoint(model, quiet, adapter)
    context = _context(checkpoint, context, stride)
    passages = read_passages(
        file, checkpoint.tokenizer, _template(checkpoint, style), style=style, part=part, limit=limit
    )
    with Console(stderr=True, quiet=quiet).status("scoring") as status:
        done = 0

        def count_windows(number: int) -> None:
            nonlocal done
            done += number
            status.update(f"scoring, {done:,} windows")

        result = measure(
            *(checkpoint.model, checkpoint.tokenizer, passages.passages),
            context=context,
            stride=stride,
            tell=count_windows,
        )
    if not result.tokens:
        raise UserError("The text is too short: it has no token to predict", where=file, fix="use a longer text")
    if out is not None:
        rows = (json.dumps(each.as_dict(), ensure_ascii=False) for each in result.passages)
        write_atomically(out, "".join(f"{row}\n" for row in rows))
    if as_json:
        print(json.dumps({"model": checkpoint.name, "adapter": checkpoint.adapter, **_facts(result, passages)}))
    else:
        show(_lines(result, passages))


def _context(checkpoint: Checkpoint, context: int | None, stride: int | None) -> int:
    """Window length in tokens. Raises UserError if it exceeds the model's context or is below the stride."""
    from mlx_suite.engine import context_length
    from mlx_suite.evaluate.perplexity import CONTEXT

    longest = context_length(checkpoint.model)
    chosen = min(longest, CONTEXT) if context is None else context
    if chosen > longest:
        raise UserError(
            f"--context is {chosen:,}", where="--context", fix=f"use at most {longest:,}, the model's context"
        )
    if stride is not None and stride > chosen - 1:
        raise UserError(
            f"--stride is {stride:,}", where="--stride", fix=f"use less than --context, which is {chosen:,}"
        )
    return chosen


def _template(checkpoint: Checkpoint, style: str) -> Any:
    """The chat template, or None if there is none, since plain text needs none."""
    try:
        return checkpoint.template if style == "chat" else None
    except UserError:
        return None


def _lines(result: "Perplexity", passages: "Passages") -> Iterator[tuple[str, str]]:
    kind = "tokens" if passages.kind == "text" else "tokens of responses"
    yield "scored", f"{result.tokens:,} {kind} in {len(result.passages):,} texts ({passages.part})"
    yield "windows", f"{len(result.windows):,} of at most {result.context:,} tokens, stride {result.stride:,}"
    if result.unscored:
        yield "unscored", f"the first token of {result.unscored:,} texts: the model has no BOS to predict it from"
    error = "" if result.error is None else f" ± {result.error:.4f} (standard error)"
    yield "loss", f"{result.nats:.4f} nats per token{error}"
    interval = "" if result.interval is None else " (95% CI {:,.3f} to {:,.3f})".format(*result.interval)
    yield "perplexity", f"{result.perplexity:,.3f} per token{interval}"
    if result.bits_per_byte is not None:
        yield "bits", f"{result.bits_per_byte:.4f} per byte"


def _facts(result: "Perplexity", passages: "Passages") -> dict[str, Any]:
    return {
        "kind": passages.kind,
        "part": passages.part,
        "texts": len(result.passages),
        "tokens": result.tokens,
        "nats_per_token": result.nats,
        "error": result.error,
        "perplexity": result.perplexity,
        "interval": result.interval,
        "bits_per_byte": result.bits_per_byte,
        "context": result.context,
        "stride": result.stride,
        "windows": len(result.windows),
        "unscored": result.unscored,
    }
