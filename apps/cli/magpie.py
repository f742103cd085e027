"""`mlx-suite magpie`: instruction data that a model writes itself, and the stages that work on datasets."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from mlx_suite.magpie.settings import MagpieSettings
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.progress import Progress

from .checkpoint import open_checkpoint
from .flags import AsJson, ModelName, OutFolder, Quiet, print_json
from .help import add, new_app
from .launched import launched
from .magpie_export import magpie_export
from .magpie_filter import magpie_filter
from .magpie_pairs import magpie_pairs
from .magpie_reflect import magpie_reflect
from .magpie_report import report
from .magpie_tag import magpie_calibrate, magpie_tag
from .options import Flag, takes_settings

if TYPE_CHECKING:
    from mlx_suite.magpie import RunSummary
    from mlx_suite.magpie.shards import Shards

GROUPS = {
    "Options": ("count", "seed"),
    "Instructions": ("temperature", "top_p", "mix", "ban_first", "max_instruction", "sanitise"),
    "Steering and quotas": ("system", "topics", "personas", "quotas", "steer"),
    "Filters": (
        *("near_duplicate", "near_meaning", "decontaminate", "min_input_quality", "min_answer_quality"),
        *("unsafe", "tags", "questions", "embeddings"),
    ),
    "Responses": ("answer_temperature", "answer_top_p", "max_answer", "turns"),
    "Run": ("batch", "memory", "patience", "most_asked"),
}
"""The flags of the settings, as `--help-all` shows them."""
FLAGS = {
    "count": Flag(names=("--count", "-n"), metavar="N"),
    "mix": Flag(metavar="SETTINGS"),
    "system": Flag(metavar="TEXT"),
    "topics": Flag(names=("--topic",), metavar="TEXT", repeated=True),
    "personas": Flag(names=("--persona",), metavar="TEXT", repeated=True),
    "quotas": Flag(names=("--quota",), metavar="SHARES", repeated=True),
    "ban_first": Flag(metavar="TEXT", repeated=True),
    "decontaminate": Flag(metavar="FILE", repeated=True),
    "min_input_quality": Flag(metavar="LABEL"),
    "min_answer_quality": Flag(metavar="LABEL"),
    "questions": Flag(metavar="FILE"),
    "memory": Flag(metavar="SIZE"),
}
COMMON = ("count", "seed", "topics", "quotas", "min_input_quality", "turns")


def _file_of(what: str) -> Any:
    return typer.Option(
        f"--{what}s",
        metavar="FILE",
        help=f"File of {what}s, one per line.",
        rich_help_panel="Steering and quotas",
        hidden=True,
    )


@takes_settings(MagpieSettings, GROUPS, FLAGS, COMMON)
def magpie_run(
    typed: Mapping[str, Any],
    model: ModelName,
    out: OutFolder,
    topics_file: Annotated[Path | None, _file_of("topic")] = None,
    personas_file: Annotated[Path | None, _file_of("persona")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Let a chat model write instructions and respond to them (Magpie, arXiv 2406.08464).

    The model is given its own chat template up to the user's turn, so it writes what a user would. An instruction that
    is incomplete, a duplicate, too poor or over its quota is rejected before its response is generated.

    DIR gets accepted.jsonl (rows with messages for finetuning), rejected.jsonl (with reasons), drafts.jsonl (all that
    was generated) and manifest.json (settings and costs). A stopped run resumes with the same command and ends with
    the same rows; limits may be raised and filters changed later.

    Example: `mlx-suite magpie run tiny-llama3 --count 200 --out demo/`

    Example: `mlx-suite magpie run tiny-llama3 -n 200 -o demo/ --quota "category:Math=0.5,Reasoning=0.5"`

    Example: `mlx.launch -n 2 -- mlx-suite magpie run tiny-llama3 -n 200 -o demo/`
    """

    def settings() -> MagpieSettings:
        lists = {
            "topics": (*typed.get("topics", ()), *_read_lines(topics_file, "--topics")),
            "personas": (*typed.get("personas", ()), *_read_lines(personas_file, "--personas")),
        }
        return MagpieSettings(**{**typed, **lists})

    with launched(out) as shards:
        summary = _make(model, settings, out, quiet or not shards.group.is_rank_zero, shards)
    if summary is None:
        return
    if as_json:
        print_json(summary.as_dict())
        return
    from .magpie_summary import show_summary

    show_summary(Console(highlight=False), summary)


def _read_lines(path: Path | None, flag: str) -> Iterator[str]:
    """The non-blank lines of a file."""
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
    """The summary on rank 0; None on other ranks, which only help."""
    from mlx_suite.magpie import make_dataset
    from mlx_suite.magpie.followers import follow_dataset

    settings = shards.together(settings_given)
    checkpoint = shards.together(lambda: open_checkpoint(model, quiet))
    template = shards.together(lambda: checkpoint.template)
    note = _unsaid if quiet else _say
    if settings.system and not template.takes_system:
        note("The chat template has no system role, so the system text became a first exchange.")
    settings = replace(settings, model_name=checkpoint.name)
    made_of = checkpoint.model, checkpoint.tokenizer, template, settings, out
    if not shards.group.is_rank_zero:
        follow_dataset(*made_of, group=shards.group, on_note=note)
        return None
    with _progress(settings.count, quiet) as report:
        return make_dataset(*made_of, report, group=shards.group, on_note=note)


def _say(note: str) -> None:
    print(note, file=sys.stderr)


def _unsaid(note: str) -> None:
    """For --quiet, and for all ranks but 0."""


@contextmanager
def _progress(total: int, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A progress line that starts with the rows that a resumed folder already holds."""
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


magpie_app = new_app("magpie", "Let a chat model write instruction data; tag, filter, report on and export datasets.")
add(magpie_app, magpie_run, "run")
add(magpie_app, magpie_tag, "tag")
add(magpie_app, magpie_calibrate, "calibrate")
add(magpie_app, magpie_filter, "filter")
add(magpie_app, report, "report")
add(magpie_app, magpie_export, "export")
add(magpie_app, magpie_pairs, "pairs")
add(magpie_app, magpie_reflect, "reflect")
