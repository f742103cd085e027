"""Summary of `mlx-suite magpie run`: sample rows, the funnel, speed and cost."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlx_suite.runtime.progress import duration

if TYPE_CHECKING:
    from mlx_suite.magpie import RunSummary
    from mlx_suite.magpie.stats import Session

SAMPLES = 5
LONGEST = 200
"""Characters of a text that the sample table shows."""
VALUES = 12
"""Number of steered values listed per dimension; there may be many topics."""
_STAGES = {"ask": "generated", "screen": "screened", "answer": "responded", "grade": "graded"}


def show_summary(console: Console, summary: "RunSummary") -> None:
    """Print sample rows, then the numbers."""
    console.print(_samples(summary))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim", min_width=9)
    table.add_column(overflow="fold")
    for name, value in _figures(summary):
        table.add_row(name, Text(value))
    console.print(table)
    console.print(Text.assemble(("rows       ", "dim"), str(summary.accepted_file)), soft_wrap=True)  # for copying


def _samples(summary: "RunSummary") -> Table:
    """Table of rows at equal distances in the dataset."""
    table = Table(box=box.HORIZONTALS, show_lines=True, pad_edge=False, expand=True, header_style="bold")
    table.add_column("instruction", ratio=1, overflow="fold")
    table.add_column("response", ratio=1, overflow="fold")
    stride = max(1, summary.accepted // SAMPLES)
    for record in islice(summary.records(), 0, SAMPLES * stride, stride):
        instruction, response = (message["content"] for message in record["messages"][-2:])
        table.add_row(_shortened(instruction), _shortened(response))
    return table


def _shortened(text: str) -> Text:
    shown = "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)
    return Text(shown if len(shown) <= LONGEST else shown[:LONGEST].rstrip() + " …")


def _figures(summary: "RunSummary") -> Iterator[tuple[str, str]]:
    yield from _funnel(summary)
    yield "accepted", f"{summary.accepted:,} rows, a yield of {_percent(summary.accepted, summary.decided)}"
    yield from _steering(summary)
    yield "speed", _speed(summary.work)
    if summary.rows_per_hour:
        tokens = summary.tokens_per_row
        yield (
            "cost",
            f"{summary.rows_per_hour:,.0f} accepted rows per hour; each takes {tokens['sampled']:,.0f} generated and "
            f"{tokens['read']:,.0f} prefilled tokens",
        )
    truth = summary.truth
    if truth is not None:
        share = _percent(truth.right, truth.answers)
        yield "confirmed", f"{truth.right:,} of {truth.answers:,} responses are right, {share}"
        if truth.recognised < truth.answers:
            yield "", f"{truth.recognised:,} of the instructions are tasks of the microworld"


def _funnel(summary: "RunSummary") -> Iterator[tuple[str, str]]:
    """One line per stage, and one per reason for rejection in that stage."""
    from mlx_suite.curation.reasons import REASONS, STAGES, stage_of

    reasons: dict[str, Counter[str]] = {stage: Counter() for stage in STAGES}
    for reason, number in summary.rejections.items():
        reasons[stage_of(reason)][reason] += number
    seconds, rows = summary.seconds, summary.decided
    for stage in STAGES:
        spent = f" in {duration(seconds[stage])}" if seconds[stage] >= 0.5 else ""
        yield _STAGES[stage], f"{rows:,} rows{spent}"
        for reason, number in reasons[stage].most_common():
            yield "", f"− {number:,}: {REASONS[reason]}"
        rows -= reasons[stage].total()


def _steering(summary: "RunSummary") -> Iterator[tuple[str, str]]:
    """Per quota, all accepted rows; per steered value, the rows steered to it and what they cost."""
    tally = summary.tally
    for quota in tally.quotas:
        met = tally.met.get(quota.dimension, Counter())
        values = quota.rows
        for value, wanted in list(values.items())[:VALUES]:
            each = tally.steered.get(quota.dimension, {}).get(value)
            cost = f", {each.tokens / each.accepted:,.0f} tokens each" if each and each.accepted else ""
            steered = f"; {each.accepted:,} of {each.asked:,} steered to it{cost}" if each and each.asked else ""
            name = "anything else" if value == "*" else value
            yield quota.dimension, f"{name}: {met[value]:,} of {wanted:,} rows accepted{steered}"
        if len(values) > VALUES:
            yield "", f"and {len(values) - VALUES:,} more in manifest.json"


def _speed(work: "Session | None") -> str:
    if work is None:
        return "all rows already existed"
    seconds = max(work.seconds, 1e-9)
    rate = work.rows / seconds
    rows = f"{rate:.1f} rows/s" if rate >= 0.95 else f"{1 / max(rate, 1e-9):.1f} s per row"
    return f"{rows} in {duration(work.seconds)}; {work.sampled / seconds:,.0f} tokens/s, slots {work.busy:.0%} busy"


def _percent(part: int, total: int) -> str:
    return f"{part / max(total, 1):.0%}"
