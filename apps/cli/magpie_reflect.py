"""`mlx-suite magpie reflect`: instructions and answers written anew, and kept where they are better."""

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from mlx_suite.magpie.reflection.settings import ReflectSettings

from .checkpoint import ModelName, open_checkpoint
from .labelled import show
from .magpie_stage import AsJson, Batch, DataName, OutFolder, Quiet, chat_model, stages_progress, verdict_lines
from .options import option

if TYPE_CHECKING:
    from mlx_suite.engine.chat_model import ChatModel
    from mlx_suite.magpie.reflection.outcomes import Reflection, ReflectSummary

_DEFAULT = ReflectSettings(what="both")


def magpie_reflect(
    data: DataName,
    model: ModelName,
    what: Annotated[str, option(ReflectSettings, "what", metavar="WHAT")],
    out: OutFolder,
    judge: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Let another model judge; without it the one that writes judges itself."),
    ] = None,
    temperature: Annotated[float, option(ReflectSettings, "temperature")] = _DEFAULT.temperature,
    max_criticism: Annotated[int, option(ReflectSettings, "max_criticism", metavar="TOKENS")] = _DEFAULT.max_criticism,
    max_instruction: Annotated[
        int, option(ReflectSettings, "max_instruction", metavar="TOKENS")
    ] = _DEFAULT.max_instruction,
    max_answer: Annotated[int, option(ReflectSettings, "max_answer", metavar="TOKENS")] = _DEFAULT.max_answer,
    seed: Annotated[int, option(ReflectSettings, "seed")] = _DEFAULT.seed,
    limit: Annotated[int | None, option(ReflectSettings, "limit", metavar="N")] = _DEFAULT.limit,
    batch: Batch = 16,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Let a model criticise instructions or answers and write better ones (Reflection-Tuning, arXiv 2310.11716).

    A new text is kept only if it is whole and a judge prefers it from both places, else the old one stays; a judge that
    cannot tell an answer from one to another question is not trusted with any. A new instruction comes with a new
    answer. All rows go to `accepted.jsonl`, and what was not kept to `refused.jsonl`.

    Stop it whenever you like: the same command goes on where it was.

    Example: `mlx-suite magpie reflect demo/ tiny-llama3 --what answer --out better/`
    """
    settings = ReflectSettings(
        what=what,
        temperature=temperature,
        max_criticism=max_criticism,
        max_instruction=max_instruction,
        max_answer=max_answer,
        seed=seed,
        limit=limit,
    )
    from mlx_suite.curation.dataset import read_collection
    from mlx_suite.magpie.reflection.reflection import reflect

    def opener(name: str) -> "Callable[[], ChatModel]":
        return lambda: chat_model(open_checkpoint(name, quiet), batch).with_fixed_date()

    collection = read_collection(data)
    try:
        with stages_progress("texts", quiet) as tell:
            found = reflect(collection, opener(model), settings, out, None if judge is None else opener(judge), tell)
    except KeyboardInterrupt:
        print(f"Stopped. What was written is in {out}; the same command goes on from there.", file=sys.stderr)
        raise typer.Exit(130) from None
    if as_json:
        print(json.dumps(found.as_dict(), indent=2, ensure_ascii=False))
    else:
        show(_figures(found))


def _figures(found: "ReflectSummary") -> list[tuple[str, str]]:
    figures = [("rows", f"{found.rows:,}, written by {found.writer} and judged by {found.judge}")]
    for part in found.parts:
        figures += _part_figures(part)
    if found.before is not None and found.after is not None:
        figures += verdict_lines({"all rows before": found.before, "and after": found.after})
    figures.append(("file", str(found.folder / "accepted.jsonl")))
    return figures


def _part_figures(part: "Reflection") -> list[tuple[str, str]]:
    from mlx_suite.magpie.reflection.judging import PASS_SHARE
    from mlx_suite.magpie.reflection.outcomes import REASONS

    label = {"instruction": "questions", "answer": "answers"}[part.part]
    figures = [(label, f"{part.kept:,} of {part.rows:,} kept, {part.judged:,} judged")]
    figures += [("", f"{number:,}: {REASONS[reason]}") for reason, number in part.reasons.items()]
    if part.trial is not None:
        verdict = "passed" if part.trial >= PASS_SHARE else f"failed, so nothing is kept; {PASS_SHARE:.0%} are needed"
        figures.append(("trial", f"the judge sees {part.trial:.0%} of the differences that are plain: {verdict}"))
    if part.first_place is not None:
        figures.append(("", f"the judge prefers what stands first in {part.first_place:.0%} of its verdicts"))
    if part.before is not None and part.after is not None:
        figures += verdict_lines({"changed rows before": part.before, "and after": part.after})
    return figures
