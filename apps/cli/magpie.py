"""`mlx-suite magpie MODEL`: instruction data that a model writes by itself.

The stages that work on what is there (tag, filter, report, …) stand beside it: see `magpie_group`.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from mlx_suite.magpie.settings import MagpieSettings
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.progress import Progress

from .checkpoint import ModelName, open_checkpoint
from .launched import launched
from .options import option

if TYPE_CHECKING:
    from mlx_suite.magpie import RunSummary
    from mlx_suite.magpie.shards import Shards

_DEFAULT = MagpieSettings(count=1)
_ASK, _STEER, _SCREEN, _ANSWER, _RUN = (
    "What is asked",
    "What it is about",
    "What is kept",
    "What is answered",
    "How it runs",
)


class Unsafe(StrEnum):
    """What becomes of unsafe rows."""

    reject = "reject"
    keep = "keep"


def _flag(field: str, panel: str, *flags: str, metavar: str | None = None) -> Any:
    found = option(MagpieSettings, field, *flags, metavar=metavar)
    found.rich_help_panel = panel
    return found


def _lines(of_what: str) -> Any:
    return typer.Option(
        f"--{of_what}s", metavar="FILE", help=f"A file of {of_what}s, one a line.", rich_help_panel=_STEER
    )


def magpie(
    model: ModelName,
    count: Annotated[int, option(MagpieSettings, "count", "--count", "-n", metavar="N")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="DIR", help="The folder to fill; made if missing, continued if begun."),
    ],
    seed: Annotated[int, option(MagpieSettings, "seed")] = _DEFAULT.seed,
    temperature: Annotated[float, _flag("temperature", _ASK)] = _DEFAULT.temperature,
    top_p: Annotated[float, _flag("top_p", _ASK)] = _DEFAULT.top_p,
    mix: Annotated[str | None, _flag("mix", _ASK, metavar="SETTINGS")] = _DEFAULT.mix,
    ban_first: Annotated[list[str] | None, _flag("ban_first", _ASK, metavar="TEXT")] = None,
    max_instruction: Annotated[int, _flag("max_instruction", _ASK, metavar="TOKENS")] = _DEFAULT.max_instruction,
    sanitise: Annotated[bool, _flag("sanitise", _ASK, "--sanitise/--no-sanitise")] = _DEFAULT.sanitise,
    system: Annotated[str | None, _flag("system", _STEER, metavar="TEXT")] = _DEFAULT.system,
    topic: Annotated[list[str] | None, _flag("topics", _STEER, "--topic", metavar="TEXT")] = None,
    topics: Annotated[Path | None, _lines("topic")] = None,
    persona: Annotated[list[str] | None, _flag("personas", _STEER, "--persona", metavar="TEXT")] = None,
    personas: Annotated[Path | None, _lines("persona")] = None,
    quota: Annotated[list[str] | None, _flag("quotas", _STEER, "--quota", metavar="SHARES")] = None,
    steer: Annotated[bool, _flag("steer", _STEER, "--steer/--no-steer")] = _DEFAULT.steer,
    near_duplicate: Annotated[float | None, _flag("near_duplicate", _SCREEN)] = _DEFAULT.near_duplicate,
    near_meaning: Annotated[float | None, _flag("near_meaning", _SCREEN)] = _DEFAULT.near_meaning,
    decontaminate: Annotated[list[str] | None, _flag("decontaminate", _SCREEN, metavar="FILE")] = None,
    min_input_quality: Annotated[
        str | None, _flag("min_input_quality", _SCREEN, metavar="LABEL")
    ] = _DEFAULT.min_input_quality,
    min_answer_quality: Annotated[
        str | None, _flag("min_answer_quality", _SCREEN, metavar="LABEL")
    ] = _DEFAULT.min_answer_quality,
    unsafe: Annotated[Unsafe, _flag("unsafe", _SCREEN)] = Unsafe.reject,
    tags: Annotated[bool, _flag("tags", _SCREEN, "--tags/--no-tags")] = _DEFAULT.tags,
    questions: Annotated[str | None, _flag("questions", _SCREEN, metavar="FILE")] = _DEFAULT.questions,
    embeddings: Annotated[bool, _flag("embeddings", _SCREEN, "--embeddings/--no-embeddings")] = _DEFAULT.embeddings,
    answer_temperature: Annotated[float, _flag("answer_temperature", _ANSWER)] = _DEFAULT.answer_temperature,
    answer_top_p: Annotated[float, _flag("answer_top_p", _ANSWER)] = _DEFAULT.answer_top_p,
    max_answer: Annotated[int, _flag("max_answer", _ANSWER, metavar="TOKENS")] = _DEFAULT.max_answer,
    turns: Annotated[int, _flag("turns", _ANSWER)] = _DEFAULT.turns,
    batch: Annotated[int, _flag("batch", _RUN, metavar="ROWS")] = _DEFAULT.batch,
    memory: Annotated[str | None, _flag("memory", _RUN, metavar="SIZE")] = _DEFAULT.memory,
    patience: Annotated[int, _flag("patience", _RUN, metavar="ROWS")] = _DEFAULT.patience,
    most_asked: Annotated[int | None, _flag("most_asked", _RUN, metavar="ROWS")] = _DEFAULT.most_asked,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON for a program to read.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
) -> None:
    """Let a chat model write instructions and answer them.

    The model is given its own chat template up to the place where a user would begin to type, so it writes what a
    user would ask (Magpie, arXiv 2406.08464). What it asks is screened before it is answered: cut off, repeated, poor
    or off quota, it costs no answer. Then it answers, and the answer is graded.

    Into DIR go `accepted.jsonl`, rows with `messages` for finetuning; `rejected.jsonl`, the others with the reason;
    `drafts.jsonl`, all that the model wrote; `manifest.json`, what made them and what they cost.

    Stop it whenever you like: the same command goes on where it was and ends with the same rows. Limits may be raised
    and what is kept may be changed later: then only what is missing is made.

    Example: `mlx-suite magpie tiny-llama3 --count 200 --out demo/`

    Example: `mlx-suite magpie tiny-llama3 -n 200 -o demo/ --quota "category:Math=0.5,Reasoning=0.5"`

    Example: `mlx.launch -n 2 -- mlx-suite magpie tiny-llama3 -n 200 -o demo/`
    """
    typed = dict(locals())

    def settings() -> MagpieSettings:
        given = typed | {
            "topics": (*(topic or ()), *_read_lines(topics, "--topics")),
            "personas": (*(persona or ()), *_read_lines(personas, "--personas")),
            "quotas": tuple(quota or ()),
            "ban_first": tuple(ban_first or ()),
            "decontaminate": tuple(decontaminate or ()),
            "unsafe": unsafe.value,
        }
        return MagpieSettings(**{each.name: given[each.name] for each in fields(MagpieSettings) if each.name in given})

    with launched(out) as shards:
        summary = _make(model, settings, out, quiet or not shards.peers.first, shards)
    if summary is None:
        return
    if as_json:
        print(json.dumps(summary.as_dict(), indent=2, ensure_ascii=False))
        return
    from .magpie_summary import show_summary

    show_summary(Console(highlight=False), summary)


def _read_lines(path: Path | None, flag: str) -> Iterator[str]:
    """The lines of a file that are not blank."""
    if path is None:
        return
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The file cannot be read: {error}", where=f"{flag} {path}", fix="check the path") from error
    yield from filter(None, map(str.strip, text.splitlines()))


def _make(
    model: str, settings_given: Callable[[], MagpieSettings], out: Path, quiet: bool, shards: "Shards"
) -> "RunSummary | None":
    """The summary of the first process; None of another, which only helps."""
    from mlx_suite.magpie import make_dataset
    from mlx_suite.magpie.followers import follow_dataset

    settings = shards.together(settings_given)
    checkpoint = shards.together(lambda: open_checkpoint(model, quiet))
    template = shards.together(lambda: checkpoint.template)
    note = _unsaid if quiet else _say
    if settings.system and not template.takes_system:
        note("The chat template knows no system role: the system text became a first exchange.")
    settings = replace(settings, model_name=checkpoint.name)
    made_of = checkpoint.model, checkpoint.tokenizer, template, settings, out
    if not shards.peers.first:
        follow_dataset(*made_of, peers=shards.peers, on_note=note)
        return None
    with _progress(settings.count, quiet) as report:
        return make_dataset(*made_of, report, peers=shards.peers, on_note=note)


def _say(note: str) -> None:
    print(note, file=sys.stderr)


def _unsaid(note: str) -> None:
    """For --quiet, and for all processes but the first."""


@contextmanager
def _progress(total: int, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A progress line that begins with the rows a continued folder holds already."""
    if quiet:
        yield None
        return
    with ExitStack() as stack:
        shown: Progress | None = None

        def report(accepted: int, asked: int) -> None:
            nonlocal shown
            if shown is None:
                if accepted == total:
                    return
                shown = stack.enter_context(Progress("magpie", total, unit="rows", done=accepted))
            shown.update(accepted, asked=asked)

        yield report
