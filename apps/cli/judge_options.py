"""Flags that the `judge` commands share, and the judge itself."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.progress import Progress

from .checkpoint import open_checkpoint

if TYPE_CHECKING:
    from mlx_suite.engine.chat_model import ChatModel
    from mlx_suite.evaluate.prompts import JudgePrompt

Answers = Annotated[
    Path,
    typer.Argument(
        metavar="ANSWERS", help="Output of `judge answer`, or any file or folder of instructions and responses."
    ),
]
By = Annotated[str, typer.Option("--by", metavar="MODEL", help="The judge: any model.")]
PromptFile = Annotated[
    Path | None, typer.Option("--prompt", metavar="FILE", help="Your own prompt, with the same fields in braces.")
]
MaxTokens = Annotated[int, typer.Option("--max-tokens", min=1, metavar="N", help="Longest reply, in tokens.")]
Seed = Annotated[int, typer.Option("--seed", help="Random seed of the bootstrap intervals.")]
Report = Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="JSONL file with one line per row.")]


def judge_model(
    name: str, quiet: bool, slots: int, *, adapter: Path | None = None, style: str = "chat"
) -> tuple["ChatModel", str, str | None]:
    """The chat model, its name and its adapter's name."""
    from mlx_suite.engine.chat_model import ChatModel

    checkpoint = open_checkpoint(name, quiet, adapter)
    chat = ChatModel(
        model=checkpoint.model,
        tokenizer=checkpoint.tokenizer,
        template=checkpoint.template if style == "chat" else None,
        style=style,
        slots=slots,
    )
    return chat, checkpoint.name, checkpoint.adapter


def prompt_of(path: Path | None, default: "JudgePrompt", required: Sequence[str]) -> "JudgePrompt":
    from mlx_suite.evaluate.prompts import read_prompt

    return default if path is None else read_prompt(path, required)


def check_word(flag: str, value: str | None, known: Sequence[str | None]) -> None:
    if value not in known:
        words = ", ".join(word for word in known if word)
        raise UserError(f"{flag} is {value!r}", where=flag, fix=f"use one of {words}")


@contextmanager
def progress_of(label: str, total: int, quiet: bool) -> Iterator[Progress | None]:
    if quiet:
        yield None
        return
    with Progress(label, total, unit="replies") as progress:
        yield progress


def write_rows(out: Path | None, rows: Sequence[dict[str, Any]]) -> None:
    from mlx_suite.runtime.files import write_atomically

    if out is not None:
        write_atomically(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
