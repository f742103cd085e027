"""Flags and arguments that several commands share."""

import importlib.util
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from mlx_suite.runtime.errors import UserError

from ..chat.settings import ResponseSettings
from .options import option

ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A name from `models list`, a folder, a GGUF file, OWNER/REPO[@REVISION] or a hub URL."
    ),
]
AdapterFolder = Annotated[
    Path | None,
    typer.Option("--adapter", metavar="DIR", help="An adapter for the model: its folder, or the folder of its run."),
]
Lookup = Annotated[
    bool,
    typer.Option(
        "--lookup/--no-lookup",
        hidden=True,
        rich_help_panel="Speed",
        help="Guess the next tokens where text repeats, and check several per step. The text stays the same in fp32.",
    ),
]
DraftName = Annotated[
    str,
    typer.Option(
        "--draft",
        metavar="MODEL",
        hidden=True,
        rich_help_panel="Speed",
        help="A smaller model with the same tokenizer that guesses the next tokens, instead of --lookup.",
    ),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="YAML file of settings; flags override it.")
]
Preview = Annotated[bool, typer.Option("--preview", help="Show rows with the trained tokens marked; train nothing.")]
Estimate = Annotated[
    bool, typer.Option("--estimate", help="Estimate memory and time, and what would fit; train nothing.")
]
DataName = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="The folder of a run, a file, a folder, or OWNER/REPO[:CONFIG] on the hub.",
        show_default=False,
    ),
]
OutFolder = Annotated[
    Path, typer.Option("--out", "-o", metavar="DIR", help="Output folder; created if missing, resumed if it exists.")
]
NewFolder = Annotated[
    Path, typer.Option("--out", "-o", metavar="DIR", help="Output folder. If this command made it, it is replaced.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace a file or folder that this command did not make.")]
Batch = Annotated[
    int,
    typer.Option("--batch", min=1, metavar="N", help="Texts generated concurrently; more is faster."),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="Use only the first N rows.")]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict", help="Refuse data with a row that cannot be used. By default such rows are set aside and counted."
    ),
]
Split = Annotated[
    str,
    typer.Option(
        "--split", metavar="NAME", help="Split of DATA to read, such as train_sft. Default: its only training split."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
MaxTokens = Annotated[int, option(ResponseSettings, "max_tokens", metavar="N")]
Temperature = Annotated[float, option(ResponseSettings, "temperature")]
TopP = Annotated[float, option(ResponseSettings, "top_p")]
MinP = Annotated[float, option(ResponseSettings, "min_p")]
TopK = Annotated[int, option(ResponseSettings, "top_k", metavar="K")]
RepetitionPenalty = Annotated[float, option(ResponseSettings, "repetition_penalty")]
PresencePenalty = Annotated[float, option(ResponseSettings, "presence_penalty", panel="Sampling")]
FrequencyPenalty = Annotated[float, option(ResponseSettings, "frequency_penalty", panel="Sampling")]
StopTexts = Annotated[list[str], option(ResponseSettings, "stop", metavar="TEXT")]
LogitBias = Annotated[list[str], option(ResponseSettings, "logit_bias", metavar="ID=VALUE", panel="Sampling")]
TemplateVariables = Annotated[
    list[str],
    typer.Option(
        "--template-arg",
        metavar="NAME=VALUE",
        help="Set a variable of the chat template, such as enable_thinking=false (Qwen 3). Repeatable.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]


def print_json(value: Any) -> None:
    """Print a result as JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def check_choice(flag: str, value: str | None, choices: Sequence[str | None]) -> None:
    """Raise UserError if a flag's value is not one of `choices`."""
    if value not in choices:
        names = ", ".join(name for name in choices if name)
        raise UserError(f"{flag} is {value!r}", where=flag, fix=f"use one of {names}")


def named_as_flags(problems: Iterable[tuple[str, str]]) -> list[str]:
    """One line for each invalid field, named by its flag."""
    return [f"--{name.replace('_', '-')} {problem}" for name, problem in problems]


def positive_numbers(flag: str, text: str, example: str) -> tuple[int, ...]:
    """Parse positive integers separated by commas. Raises UserError naming the flag."""
    numbers = tuple(int(part) if part.strip().isdecimal() else 0 for part in text.split(","))
    if not all(numbers):
        raise UserError(f"{flag} is {text!r}, not a list of positive integers", fix=f"for example, {flag} {example}")
    return numbers


def require_packages(who: str, modules: Sequence[str], where: str, extra: str) -> None:
    """Raise UserError if a module of an optional extra is not installed."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"{who} needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed",
            where=where,
            fix=f"pip install 'mlx-suite[{extra}]'",
        )


@contextmanager
def resumable(kept: str) -> Iterator[None]:
    """On Ctrl-C, print what is kept and that the same command resumes."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"Stopped. {kept}; the same command resumes from there.", file=sys.stderr)
        raise typer.Exit(130) from None
