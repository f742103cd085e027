"""`mlx-suite bench speculate`: several tokens per step, compared with one."""

import json as json_format
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from mlx_suite.runtime.errors import UserError

from .checkpoint import open_checkpoint
from .flags import AsJson, DraftName, ModelName


def speculate(
    model: ModelName,
    text: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Text to repeat. Default: a passage of the microworld.")
    ] = None,
    draft: DraftName = "",
    prompt: Annotated[int, typer.Option(min=16, help="Prompt length in tokens.")] = 256,
    tokens: Annotated[int, typer.Option(min=2, help="Tokens generated.")] = 128,
    repeats: Annotated[int, typer.Option(min=1, help="Timed runs; medians are printed.")] = 3,
    json: AsJson = False,
) -> None:
    """Compare plain decoding with guesses by prompt lookup, and by a draft model, for one row.

    One text repeats its prompt (continued greedily), the other does not (sampled at temperature 1). Speeds are those
    after the first token; "same" says whether both sides wrote the same tokens.

    Example: `mlx-suite bench speculate tiny-synthesizer`
    """
    from mlx_suite.engine import context_length

    from ..bench.speculation import compare_guesses, continuations

    checkpoint = open_checkpoint(model)
    small = open_checkpoint(draft) if draft else None
    ids = checkpoint.tokenizer.encode(_text(text))
    if len(ids) < prompt * 4 // 5:
        raise UserError(
            f"The text has {len(ids):,} tokens, fewer than four fifths of the prompt's {prompt:,}",
            where=str(text or "the passage of the microworld"),
            fix=f"--prompt {len(ids)}",
        )
    texts = continuations(ids, prompt, checkpoint.tokenizer.encode_prompt(""))
    context = min(context_length(checkpoint.model), prompt + tokens + 1)
    rows = compare_guesses(checkpoint.model, small and small.model, texts, tokens, repeats, context)
    if json:
        typer.echo(json_format.dumps([asdict(row) | {"ratio": round(row.ratio, 3)} for row in rows], indent=2))
        return
    table = Table("text", "guesses", "plain", "guessed", "ratio", "right", "same", title=f"{model}, tokens per second")
    for row in rows:
        right = "-" if row.right is None else f"{row.right:.0%}"
        same = "yes" if row.same else "no"
        table.add_row(row.text, row.guesses, f"{row.plain:.1f}", f"{row.guessed:.1f}", f"{row.ratio:.2f}x", right, same)
    Console().print(table)


def _text(path: Path | None) -> str:
    if path is None:
        from mlx_suite.synthesize.worlds import heldout_passages

        return "\n".join(each.text for each in heldout_passages("microworld:40"))
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            "The text cannot be read", where=str(path), fix="name a UTF-8 text file", details=[str(error)]
        ) from error
