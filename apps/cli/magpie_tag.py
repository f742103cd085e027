"""`mlx-suite magpie tag` and `calibrate`: tag rows with a model, and measure how accurate its tags are."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlx_suite.curation.tags.settings import TagSettings
from mlx_suite.runtime.errors import UserError

from .checkpoint import open_checkpoint, open_reward_model
from .flags import AdapterFolder, AsJson, DataName, Limit, ModelName, Quiet, Split, Strict, print_json, resumable
from .magpie_tag_report import show_calibration, tag_facts, tag_lines
from .options import Flag, option, takes_settings
from .output import progress_lines, show, show_set_aside

if TYPE_CHECKING:
    from mlx_suite.curation.tags.tag_dataset import Models
    from mlx_suite.data.questions import Questions
    from mlx_suite.engine.chat_model import ChatModel
    from mlx_suite.modeling.reward_model import RewardModel
    from mlx_suite.text import Tokenizer

PARTS = {"tags": "tags", "own": "scores", "base": "base model", "reward": "reward model"}
"""Names of the passes over the rows in the progress line."""
FLAGS = {"base": Flag(metavar="MODEL"), "reward_model": Flag(metavar="MODEL")}

QuestionsFile = Annotated[
    Path | None,
    typer.Option(
        "--questions",
        metavar="FILE",
        help="JSON file of tagging questions and labels, in the format of tag_questions.json.",
        show_default="those the model was trained on, else the built-in ones",
    ),
]


@takes_settings(TagSettings, {"Options": ("only", "scores", "base", "reward_model")}, FLAGS)
def magpie_tag(
    typed: Mapping[str, Any],
    data: DataName,
    model: ModelName,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Output file, such as tagged.jsonl.")],
    questions: QuestionsFile = None,
    adapter: AdapterFolder = None,
    limit: Limit = None,
    split: Split = "",
    strict: Strict = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Tag the rows of any dataset: category, difficulty, quality, language, safety.

    A tag is the label with the highest probability after the conversation, and its confidence that label's share;
    nothing is generated or parsed. Rows keep all other fields. When DATA has grown, the same command tags only the new
    rows. `magpie calibrate` measures how accurate a model's tags are.

    Example: `mlx-suite magpie tag demo/ tiny-llama3 --scores ifd --out tagged.jsonl`
    """
    from mlx_suite.curation.dataset import read_collection
    from mlx_suite.curation.set_aside import set_aside_facts
    from mlx_suite.curation.tags.tag_dataset import tag_rows
    from mlx_suite.curation.tags.tagging import questions_for
    from mlx_suite.hub.resolve import resolve

    settings = TagSettings(**typed)
    collection = read_collection(data, strict=strict, split=split)
    show_set_aside(collection.set_aside, collection.total)
    rows = collection.rows[:limit]
    tag_questions = questions_for(resolve(model, progress=not quiet), questions)
    with resumable("The tags so far are kept"), progress_lines("rows", quiet) as update:
        run = tag_rows(
            rows,
            _models(model, adapter, settings, quiet),
            tag_questions,
            settings,
            out,
            lambda part, done, total: update(PARTS[part], done, total),
        )
    if as_json:
        print_json({**tag_facts(run, out), "set_aside": set_aside_facts(collection.set_aside)})
    else:
        show(tag_lines(run, out))


def magpie_calibrate(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="[LABELLED] MODEL",
            help="Rows with true labels (in `labels`, `tags` or fields named like the questions), and the model.",
            show_default=False,
        ),
    ],
    microworld: Annotated[
        int | None,
        typer.Option(
            "--microworld", min=1, metavar="N", help="Instead of LABELLED: N rows of the microworld per question."
        ),
    ] = None,
    only: Annotated[str | None, option(TagSettings, "only", metavar="NAMES")] = None,
    as_text: Annotated[bool, typer.Option("--as-text", help="Also generate replies as text and parse them.")] = False,
    second: Annotated[
        str | None,
        typer.Option(
            "--second",
            metavar="FILE",
            help="Also ask questions with other wording or order, to measure stability; `turned` is the built-in "
            "questions with their labels in reverse.",
        ),
    ] = None,
    questions: QuestionsFile = None,
    adapter: AdapterFolder = None,
    limit: Limit = None,
    seed: Annotated[int, typer.Option("--seed", help="Random seed of the microworld's rows.")] = 0,
    split: Split = "",
    strict: Strict = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure how accurate a model's tags are, on rows whose labels are known.

    For each question: agreement with an interval, Cohen's kappa, macro F1, the labels most often confused, and the
    confidence where the tag is right and where it is wrong. With --as-text: how many tags could be parsed if the model
    generated them.

    Example: `mlx-suite magpie calibrate tiny-llama3 --microworld 100`
    """
    from mlx_suite.curation.set_aside import set_aside_facts
    from mlx_suite.curation.tags.calibration import calibrate
    from mlx_suite.curation.tags.labelled import microworld_rows, read_labelled
    from mlx_suite.curation.tags.tagging import only as only_named
    from mlx_suite.curation.tags.tagging import questions_for

    labelled, model = _labelled_and_model(names, microworld)
    checkpoint = open_checkpoint(model, quiet, adapter)
    tag_questions = questions_for(checkpoint.folder, questions)
    if only:
        tag_questions = only_named(tag_questions, tuple(name.strip() for name in only.split(",") if name.strip()))
    found = read_labelled(labelled, tag_questions, strict=strict, split=split) if labelled else None
    rows = found.rows if found else microworld_rows(microworld or 0, tag_questions, seed)
    set_aside = found.set_aside if found else ()
    show_set_aside(set_aside, found.total if found else len(rows), "cannot be used")
    with progress_lines("rows", quiet) as update:
        report = calibrate(
            checkpoint.chat_model(),
            rows[:limit],
            tag_questions,
            as_text=as_text,
            second=None if second is None else _second_questions(second),
            on_progress=lambda done, total: update("tags", done, total),
        )
    if as_json:
        print_json({"model": checkpoint.name, **report.as_dict(), "set_aside": set_aside_facts(set_aside)})
    else:
        show_calibration(report, checkpoint.name)


def _labelled_and_model(names: list[str], microworld: int | None) -> tuple[str | None, str]:
    """The file (None for the microworld's rows) and the model."""
    if len(names) == (1 if microworld else 2):
        return (None if microworld else names[0]), names[-1]
    raise UserError(
        "Rows with known labels and a model are needed",
        where=" ".join(["mlx-suite magpie calibrate", *names]),
        fix="mlx-suite magpie calibrate LABELLED MODEL, or mlx-suite magpie calibrate MODEL --microworld 100",
    )


def _second_questions(name: str) -> "Questions":
    from mlx_suite.curation.tags.full_questions import TURNED_QUESTIONS
    from mlx_suite.data.questions import read_questions

    return TURNED_QUESTIONS if name == "turned" else read_questions(Path(name))


def _models(name: str, adapter: Path | None, settings: TagSettings, quiet: bool) -> "Models":
    from mlx_suite.curation.tags.tag_dataset import Models

    def load_main() -> "ChatModel":
        return open_checkpoint(name, quiet, adapter).chat_model()

    def load_base() -> "tuple[Any, Tokenizer]":
        checkpoint = open_checkpoint(settings.base or "", quiet)
        return checkpoint.model, checkpoint.tokenizer

    def load_reward() -> "tuple[RewardModel, ChatModel]":
        return open_reward_model(settings.reward_model or "", quiet)

    return Models(main=load_main, base=load_base, reward=load_reward)
