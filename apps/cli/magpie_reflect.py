"""`mlx-suite magpie reflect`: rewrite instructions and responses, and keep what a judge prefers."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlx_suite.magpie.reflection.settings import ReflectSettings

from .checkpoint import open_checkpoint
from .flags import AsJson, Batch, DataName, ModelName, OutFolder, Quiet, Split, Strict, print_json, resumable
from .options import Flag, takes_settings
from .output import progress_lines, show, show_set_aside, verdict_lines

if TYPE_CHECKING:
    from mlx_suite.engine.chat_model import ChatModel
    from mlx_suite.magpie.reflection.outcomes import Reflection, ReflectSummary

GROUPS = {"Options": ("what", "temperature", "max_criticism", "max_instruction", "max_answer", "seed", "limit")}
FLAGS = {
    "what": Flag(metavar="WHAT"),
    "max_criticism": Flag(metavar="TOKENS"),
    "max_instruction": Flag(metavar="TOKENS"),
    "max_answer": Flag(metavar="TOKENS"),
    "limit": Flag(metavar="N"),
}


@takes_settings(ReflectSettings, GROUPS, FLAGS)
def magpie_reflect(
    typed: Mapping[str, Any],
    data: DataName,
    model: ModelName,
    out: OutFolder,
    judge: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Another model as the judge. Default: the model itself.")
    ] = None,
    batch: Batch = 16,
    split: Split = "",
    strict: Strict = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Criticise and rewrite instructions or responses (Reflection-Tuning, arXiv 2310.11716).

    A rewrite is kept only if it is complete and the judge prefers it in both orders; otherwise the old text stays. A
    judge that fails a sanity check is not trusted with any row. A new instruction gets a new response. DIR gets all
    rows (accepted.jsonl) and the rewrites that were not kept (refused.jsonl).

    Example: `mlx-suite magpie reflect demo/ tiny-llama3 --what answer --out better/`
    """
    settings = ReflectSettings(**typed)
    from mlx_suite.curation.dataset import read_collection
    from mlx_suite.curation.set_aside import set_aside_facts
    from mlx_suite.magpie.reflection.reflection import reflect

    def opener(name: str) -> "Callable[[], ChatModel]":
        return lambda: open_checkpoint(name, quiet).chat_model(batch).with_fixed_date()

    collection = read_collection(data, strict=strict, split=split)
    show_set_aside(collection.set_aside, collection.total)
    with resumable(f"The texts so far are in {out}"), progress_lines("texts", quiet) as update:
        summary = reflect(collection, opener(model), settings, out, None if judge is None else opener(judge), update)
    if as_json:
        print_json({**summary.as_dict(), "set_aside": set_aside_facts(collection.set_aside)})
    else:
        show(_figures(summary))


def _figures(summary: "ReflectSummary") -> list[tuple[str, str]]:
    from mlx_suite.data.read.sources import ACCEPTED_FILE

    figures = [("rows", f"{summary.rows:,}, rewritten by {summary.writer} and judged by {summary.judge}")]
    for part in summary.parts:
        figures += _part_figures(part)
    if summary.before is not None and summary.after is not None:
        figures += verdict_lines({"all rows before": summary.before, "and after": summary.after})
    figures.append(("file", str(summary.folder / ACCEPTED_FILE)))
    return figures


def _part_figures(part: "Reflection") -> list[tuple[str, str]]:
    from mlx_suite.magpie.reflection.judging import PASS_SHARE
    from mlx_suite.magpie.reflection.outcomes import REASONS

    what = {"instruction": "instructions", "answer": "responses"}[part.part]
    figures = [("rewritten", f"{what}: {part.kept:,} of {part.rows:,} kept, {part.judged:,} judged")]
    figures += [("", f"{number:,}: {REASONS[reason]}") for reason, number in part.reasons.items()]
    if part.trial is not None:
        verdict = "passed" if part.trial >= PASS_SHARE else f"failed, so nothing is kept (needs {PASS_SHARE:.0%})"
        figures.append(("judge", f"sanity check: right on {part.trial:.0%} of the obvious pairs, {verdict}"))
    if part.first_place is not None:
        figures.append(("", f"prefers the first position in {part.first_place:.0%} of its verdicts"))
    if part.before is not None and part.after is not None:
        figures += verdict_lines({"changed rows before": part.before, "and after": part.after})
    return figures
