"""`mlx-suite magpie tag` and `calibrate`: what a model says of rows, and whether it can be believed."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlx_suite.curation.tags.settings import TagSettings
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.progress import Progress

from .checkpoint import AdapterFolder, ModelName, open_checkpoint
from .labelled import show
from .magpie_stage import AsJson, DataName, Quiet, chat_model, open_reward_model
from .magpie_tag_report import show_calibration, tag_facts, tag_lines
from .options import option

if TYPE_CHECKING:
    from mlx_suite.checkpoints.reward_model import RewardModel
    from mlx_suite.curation.tags.tag_dataset import Models
    from mlx_suite.data.questions import Questions
    from mlx_suite.engine.chat_model import ChatModel
    from mlx_suite.text import Tokenizer

PARTS = {"tags": "tags", "own": "scores", "base": "base model", "reward": "reward model"}
"""What is done for every row, as the progress line calls it."""

QuestionsFile = Annotated[
    Path | None,
    typer.Option(
        "--questions",
        metavar="FILE",
        help="Questions and labels of your own, as the checkpoint's tag_questions.json has them.",
        show_default="those the model was trained on, else general ones",
    ),
]
Only = Annotated[str | None, option(TagSettings, "only", metavar="NAMES")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="Only the first N rows.")]


def magpie_tag(
    data: DataName,
    model: ModelName,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where the rows go, `tagged.jsonl`.")],
    only: Only = None,
    scores: Annotated[str | None, option(TagSettings, "scores", metavar="NAMES")] = None,
    base: Annotated[str | None, option(TagSettings, "base", metavar="MODEL")] = None,
    reward_model: Annotated[str | None, option(TagSettings, "reward_model", metavar="MODEL")] = None,
    questions: QuestionsFile = None,
    adapter: AdapterFolder = None,
    limit: Limit = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Let a model tag the rows of any dataset: category, difficulty, quality, language, safety.

    Nothing is generated and nothing parsed: a tag is the most probable of its labels behind the conversation, its
    `confidence` the label's share of their probability. Rows keep all other fields.

    Stop it whenever you like: the same command goes on where it was. When rows are added to DATA, only those are
    tagged. Whether the tags can be believed, `magpie calibrate` says.

    Example: `mlx-suite magpie tag demo/ tiny-llama3 --scores ifd --out tagged.jsonl`
    """
    from mlx_suite.curation.dataset import read_collection
    from mlx_suite.curation.tags.tag_dataset import tag_rows
    from mlx_suite.curation.tags.tagging import questions_for
    from mlx_suite.hub.resolve import resolve

    settings = TagSettings(only=_names(only), scores=_names(scores), base=base, reward_model=reward_model)
    rows = read_collection(data).rows[:limit]
    asked = questions_for(resolve(model, progress=not quiet), questions)
    try:
        with _progress(quiet) as tell:
            run = tag_rows(rows, _models(model, adapter, settings, quiet), asked, settings, out, tell)
    except KeyboardInterrupt:
        print("Stopped. What was found is kept; the same command goes on from there.", file=sys.stderr)
        raise typer.Exit(130) from None
    if as_json:
        print(json.dumps(tag_facts(run, out), indent=2, ensure_ascii=False))
    else:
        show(tag_lines(run, out))


def magpie_calibrate(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="[LABELLED] MODEL",
            help="Rows with true labels (in `labels`, in `tags`, or in fields called like the questions), and the "
            "model that is to tag them.",
            show_default=False,
        ),
    ],
    microworld: Annotated[
        int | None,
        typer.Option(
            "--microworld", min=1, metavar="N", help="In place of LABELLED, N rows of the microworld for each question."
        ),
    ] = None,
    only: Only = None,
    as_text: Annotated[
        bool, typer.Option("--as-text", help="Also let the model write its replies, and parse them.")
    ] = False,
    second: Annotated[
        str | None,
        typer.Option(
            "--second",
            metavar="FILE",
            help="The same questions in other words, asked as well; `turned` for the "
            "general ones with their replies listed the other way round.",
        ),
    ] = None,
    questions: QuestionsFile = None,
    adapter: AdapterFolder = None,
    limit: Limit = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the microworld's rows.")] = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find out whether a model's tags can be believed, on rows whose tags are known.

    For each question: how often it agrees, how far beyond chance (kappa), what is taken for what, and whether it
    knows when it is right. Tags are chosen, so all of them can be read; with --as-text you see how many could be if
    the model wrote them.

    Example: `mlx-suite magpie calibrate tiny-llama3 --microworld 100`
    """
    from mlx_suite.curation.tags.calibration import calibrate
    from mlx_suite.curation.tags.labelled import microworld_rows, read_labelled
    from mlx_suite.curation.tags.tagging import only as only_named
    from mlx_suite.curation.tags.tagging import questions_for

    labelled, model = _labelled_and_model(names, microworld)
    checkpoint = open_checkpoint(model, quiet, adapter)
    asked = questions_for(checkpoint.folder, questions)
    again = None if second is None else _second_questions(second)
    if only:
        asked = only_named(asked, _names(only))
    rows = microworld_rows(microworld or 0, asked, seed) if labelled is None else read_labelled(labelled, asked)
    with _progress(quiet) as tell:
        report = calibrate(
            chat_model(checkpoint),
            rows[:limit],
            asked,
            as_text=as_text,
            second=again,
            on_progress=lambda done, total: tell("tags", done, total),
        )
    if as_json:
        print(json.dumps({"model": checkpoint.name, **report.as_dict()}, indent=2, ensure_ascii=False))
    else:
        show_calibration(report, checkpoint.name)


def _labelled_and_model(names: list[str], microworld: int | None) -> tuple[str | None, str]:
    """The file, None for the microworld's rows, and the model."""
    if len(names) == (1 if microworld else 2):
        return (None if microworld else names[0]), names[-1]
    raise UserError(
        "Rows with known labels and a model are wanted",
        where=" ".join(["mlx-suite magpie calibrate", *names]),
        fix="mlx-suite magpie calibrate LABELLED MODEL, or mlx-suite magpie calibrate MODEL --microworld 100",
    )


# ---- what is given


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _second_questions(name: str) -> "Questions":
    from mlx_suite.curation.tags.full_questions import TURNED_QUESTIONS
    from mlx_suite.data.questions import read_questions

    return TURNED_QUESTIONS if name == "turned" else read_questions(Path(name))


def _models(name: str, adapter: Path | None, settings: TagSettings, quiet: bool) -> "Models":
    from mlx_suite.curation.tags.tag_dataset import Models

    def load_main() -> "ChatModel":
        return chat_model(open_checkpoint(name, quiet, adapter))

    def load_base() -> "tuple[Any, Tokenizer]":
        checkpoint = open_checkpoint(settings.base or "", quiet)
        return checkpoint.model, checkpoint.tokenizer

    def load_reward() -> "tuple[RewardModel, ChatModel]":
        return open_reward_model(settings.reward_model or "", quiet)

    return Models(main=load_main, base=load_base, reward=load_reward)


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A progress line for each part, which begins with what an earlier run has found."""
    with ExitStack() as stack:
        shown: dict[str, Progress] = {}

        def tell(part: str, done: int, total: int) -> None:
            if quiet or (part not in shown and done == total):
                return
            if part not in shown:
                stack.close()
                shown[part] = stack.enter_context(Progress(PARTS[part], total, unit="rows", done=done))
            shown[part].update(done)

        yield tell
