"""`mlx-suite magpie pairs`: preference pairs from several answers to each question."""

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from mlx_suite.magpie.pairs.settings import PairSettings
from mlx_suite.runtime.errors import UserError

from .checkpoint import ModelName, open_checkpoint
from .judge_options import check_word
from .labelled import show
from .magpie_stage import (
    AsJson,
    Batch,
    DataName,
    OutFolder,
    Quiet,
    chat_model,
    open_reward_model,
    stages_progress,
    verdict_lines,
)
from .options import option

if TYPE_CHECKING:
    from mlx_suite.engine.chat_model import ChatModel
    from mlx_suite.magpie.pairs.pairs import PairSummary
    from mlx_suite.magpie.pairs.scorers import Scorer

_DEFAULT = PairSettings()


def magpie_pairs(
    data: DataName,
    model: ModelName,
    out: OutFolder,
    answers: Annotated[int, option(PairSettings, "answers", "--answers", "-k", metavar="K")] = _DEFAULT.answers,
    temperature: Annotated[float, option(PairSettings, "temperature")] = _DEFAULT.temperature,
    top_p: Annotated[float, option(PairSettings, "top_p")] = _DEFAULT.top_p,
    max_answer: Annotated[int, option(PairSettings, "max_answer", metavar="TOKENS")] = _DEFAULT.max_answer,
    margin: Annotated[float | None, option(PairSettings, "margin")] = _DEFAULT.margin,
    by: Annotated[
        str,
        typer.Option(
            metavar="SCORE",
            help="grade: what the model says of its own answer. likelihood: how sure it was of it, per token. "
            "difference: how much surer than --judge, its base model. reward: what --judge, a reward model, says.",
        ),
    ] = "grade",
    judge: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The base model or the reward model that --by asks for.")
    ] = None,
    seed: Annotated[int, option(PairSettings, "seed")] = _DEFAULT.seed,
    limit: Annotated[int | None, option(PairSettings, "limit", metavar="N")] = _DEFAULT.limit,
    batch: Batch = 16,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Let a model answer each question several times, and pair a better answer with a worse one.

    DATA may be the folder of a run or any dataset that `finetune` reads; its own last answers are not used. Answers
    that are cut off are left out, ties are refused, and scores are compared at equal length. Rows without a pair go to
    `refused.jsonl` with the reason.

    Stop it whenever you like: the same command goes on where it was. Another margin uses the same answers.

    Example: `mlx-suite magpie pairs demo/ tiny-llama3 --out pairs/`
    """
    _check_scorer(by, judge)
    settings = PairSettings(
        answers=answers,
        temperature=temperature,
        top_p=top_p,
        max_answer=max_answer,
        margin=margin,
        seed=seed,
        limit=limit,
    )
    from mlx_suite.curation.dataset import read_collection
    from mlx_suite.magpie.pairs.pairs import make_pairs

    collection = read_collection(data)
    chat = chat_model(open_checkpoint(model, quiet), batch).with_fixed_date()
    scorer = _scorer(chat, by, judge, quiet)
    try:
        with stages_progress("answers", quiet) as tell:
            summary = make_pairs(
                collection, chat, settings, out, scorer, lambda done, total: tell("write", done, total)
            )
    except KeyboardInterrupt:
        print(f"Stopped. What was answered is in {out}; the same command goes on from there.", file=sys.stderr)
        raise typer.Exit(130) from None
    if as_json:
        print(json.dumps(summary.as_dict(), indent=2, ensure_ascii=False))
    else:
        show(_figures(summary))


def _check_scorer(by: str, judge: str | None) -> None:
    check_word("--by", by, ("grade", "likelihood", "difference", "reward"))
    if (by in ("difference", "reward")) != (judge is not None):
        raise UserError(
            f"--by {by} needs a model to score with" if judge is None else f"--by {by} asks no other model",
            where="--judge",
            fix="name the reward model, or the base model" if judge is None else "leave --judge out, or --by reward",
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
    from mlx_suite.magpie.pairs.pairing import REFUSALS
    from mlx_suite.magpie.pairs.scorers import UNITS

    whole = summary.answers - sum(summary.flaws.values())
    figures = [
        ("asked", f"{summary.rows:,} questions"),
        ("answers", f"{whole:,} whole of {summary.answers:,}"),
    ]
    figures += [("", f"{number:,} left out: {flaw}") for flaw, number in summary.flaws.items()]
    figures += [("refused", f"{number:,}: {REFUSALS[reason]}") for reason, number in summary.refused.items()]
    share = summary.pairs / max(summary.rows, 1)
    figures.append(("pairs", f"{summary.pairs:,}, {share:.0%} of the questions"))
    figures.append(("scored by", f"{summary.scored_by}; a margin of {summary.margin:g} {UNITS[summary.kind]}"))
    if summary.explained is not None:
        figures.append(("length", f"explains {summary.explained:.0%} of the scores, and is taken out of them"))
    if summary.pairs:
        chosen, rejected = summary.letters
        figures.append(
            (
                "",
                f"{chosen:.0f} letters chosen, {rejected:.0f} rejected; the chosen one is longer in {summary.longer:,}",
            )
        )
    if summary.truth is not None:
        figures += verdict_lines({"chosen": summary.truth[0], "rejected": summary.truth[1]})
    figures.append(("file", str(summary.folder / "accepted.jsonl")))
    return figures
