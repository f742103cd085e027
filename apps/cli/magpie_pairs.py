"""`mlx-suite magpie pairs`: preference pairs from several responses to each instruction."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlx_suite.magpie.pairs.settings import PairSettings
from mlx_suite.runtime.errors import UserError

from .checkpoint import open_checkpoint, open_reward_model
from .flags import (
    AsJson,
    Batch,
    DataName,
    ModelName,
    OutFolder,
    Quiet,
    Split,
    Strict,
    check_choice,
    print_json,
    resumable,
)
from .options import Flag, takes_settings
from .output import progress_lines, show, show_set_aside, verdict_lines

if TYPE_CHECKING:
    from mlx_suite.engine.chat_model import ChatModel
    from mlx_suite.magpie.pairs.pairs import PairSummary
    from mlx_suite.magpie.pairs.scorers import Scorer

GROUPS = {"Options": ("answers", "temperature", "top_p", "max_answer", "margin", "seed", "limit")}
FLAGS = {
    "answers": Flag(names=("--answers", "-k"), metavar="K"),
    "max_answer": Flag(metavar="TOKENS"),
    "limit": Flag(metavar="N"),
}


@takes_settings(PairSettings, GROUPS, FLAGS)
def magpie_pairs(
    typed: Mapping[str, Any],
    data: DataName,
    model: ModelName,
    out: OutFolder,
    by: Annotated[
        str,
        typer.Option(
            metavar="SCORE",
            help="Score: grade (the model's own grade), likelihood (log-probability per token), difference (likelihood "
            "against --judge, the base model) or reward (from --judge, a reward model).",
        ),
    ] = "grade",
    judge: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The base model or reward model that --by needs.")
    ] = None,
    batch: Batch = 16,
    split: Split = "",
    strict: Strict = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Generate several responses per instruction, and pair a better one with a worse one.

    Truncated responses are not used, ties give no pair, and scores are compared at equal length. DIR gets the pairs
    (accepted.jsonl) and the rows without one, with reasons (refused.jsonl). Changing --margin reuses the responses.

    Example: `mlx-suite magpie pairs demo/ tiny-llama3 --out pairs/`
    """
    _check_scorer(by, judge)
    settings = PairSettings(**typed)
    from mlx_suite.curation.dataset import read_collection
    from mlx_suite.curation.set_aside import set_aside_facts
    from mlx_suite.magpie.pairs.pairs import make_pairs

    collection = read_collection(data, strict=strict, split=split)
    show_set_aside(collection.set_aside, collection.total)
    chat = open_checkpoint(model, quiet).chat_model(batch).with_fixed_date()
    scorer = _scorer(chat, by, judge, quiet)
    with resumable(f"The responses so far are in {out}"), progress_lines("responses", quiet) as update:
        summary = make_pairs(
            collection, chat, settings, out, scorer, lambda done, total: update("generate", done, total)
        )
    if as_json:
        print_json({**summary.as_dict(), "set_aside": set_aside_facts(collection.set_aside)})
    else:
        show(_figures(summary))


def _check_scorer(by: str, judge: str | None) -> None:
    check_choice("--by", by, ("grade", "likelihood", "difference", "reward"))
    if (by in ("difference", "reward")) != (judge is not None):
        raise UserError(
            f"--by {by} needs a scoring model" if judge is None else f"--by {by} uses no other model",
            where="--judge",
            fix="name a reward model or a base model" if judge is None else "omit --judge",
        )


def _scorer(chat: "ChatModel", by: str, judge: str | None, quiet: bool) -> "Scorer | None":
    from mlx_suite.magpie.pairs.scorers import difference_scorer, likelihood_scorer, reward_scorer

    if judge is None:
        return likelihood_scorer(chat) if by == "likelihood" else None
    if by == "reward":
        return reward_scorer(*open_reward_model(judge, quiet))
    checkpoint = open_checkpoint(judge, quiet)
    return difference_scorer(chat, checkpoint.model, checkpoint.name)


def _figures(summary: "PairSummary") -> list[tuple[str, str]]:
    from mlx_suite.data.read.sources import ACCEPTED_FILE
    from mlx_suite.magpie.pairs.pairing import REFUSALS
    from mlx_suite.magpie.pairs.scorers import UNITS

    complete = summary.answers - sum(summary.flaws.values())
    figures = [
        ("rows", f"{summary.rows:,} instructions"),
        ("responses", f"{complete:,} complete of {summary.answers:,}"),
    ]
    figures += [("", f"{number:,} rejected: {flaw}") for flaw, number in summary.flaws.items()]
    figures += [("refused", f"{number:,}: {REFUSALS[reason]}") for reason, number in summary.refused.items()]
    share = summary.pairs / max(summary.rows, 1)
    figures.append(("pairs", f"{summary.pairs:,}, {share:.0%} of the instructions"))
    figures.append(("scored by", f"{summary.scored_by}; margin {summary.margin:g} {UNITS[summary.kind]}"))
    if summary.explained is not None:
        figures.append(("length", f"explains {summary.explained:.0%} of the scores and is controlled for"))
    if summary.pairs:
        chosen, rejected = summary.letters
        figures.append(
            (
                "",
                f"{chosen:.0f} characters chosen, {rejected:.0f} rejected; chosen is longer in {summary.longer:,}",
            )
        )
    if summary.truth is not None:
        figures += verdict_lines({"chosen": summary.truth[0], "rejected": summary.truth[1]})
    figures.append(("file", str(summary.folder / ACCEPTED_FILE)))
    return figures
