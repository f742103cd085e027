"""Output of the `judge` commands: labelled lines, and the fields of `--json`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .output import LABEL, show

if TYPE_CHECKING:
    from mlx_suite.evaluate.agreement import PairAgreement, ScoreAgreement
    from mlx_suite.evaluate.exact import ExactReport
    from mlx_suite.evaluate.pairwise import Matched, PairReport
    from mlx_suite.evaluate.scoring import ScoreReport

LOWEST = 5
"""Number of rows with the lowest scores that are printed."""
LONGEST = 60
"""Characters of a text that a line shows."""
LEAST_MASS = 0.1
"""Total probability of the labels below which the judge would have generated something else."""


def _interval(interval: tuple[float, float] | None, form: str) -> str:
    return "" if interval is None else f" (95% CI {interval[0]:{form}} to {interval[1]:{form}})"


def _short(text: str) -> str:
    shown = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return shown if len(shown) <= LONGEST else shown[:LONGEST].rstrip() + " …"


# ---- scores


def show_scores(report: "ScoreReport", name: str) -> None:
    mean = report.mean
    lines = [("judge", name)]
    if mean is not None:
        spread = "" if mean.sd is None else f", sd {mean.sd:.1f}"
        lines.append(("mean", f"{mean.mean:.1f}{_interval(mean.interval, '.1f')}{spread}, {mean.count:,} scores"))
    else:
        lines.append(("mean", "none: no reply contains a score"))
    if report.failures and report.bounds is not None:
        low, high = report.bounds
        lines.append(("unparsed", f"{len(report.failures):,} of {len(report.rows):,} replies contain no score"))
        lines.append(("bounds", f"{low:.1f} to {high:.1f}, if all of these were 0 or 100"))
    if report.mass is not None:
        doubt = "" if report.mass >= LEAST_MASS else ": it would have generated something else"
        lines.append(("labels", f"have {report.mass:.1%} of the judge's probability{doubt}"))
    show(lines)
    _show_histogram(report)
    for row in report.lowest(LOWEST):
        show([("lowest", f"{row.score:>3.0f}  {_short(row.row.instruction)}  →  {_short(row.row.answer)}")])
    for row in report.failures[:LOWEST]:
        reply = f": {_short(row.reply)}" if row.reply else ""
        show([("unparsed", f"{row.row.place}  {row.problem}{reply}")])


def _show_histogram(report: "ScoreReport") -> None:
    from mlx_suite.data.statistics import histogram

    if report.scores:
        for line in histogram(report.scores):
            print(f"{'':<{LABEL}}{line}")


def score_facts(report: "ScoreReport", agreement: "ScoreAgreement | None") -> dict[str, Any]:
    mean = report.mean
    return {
        "rows": len(report.rows),
        "scores": len(report.scores),
        "unread": len(report.failures),
        "mean": None if mean is None else mean.mean,
        "sd": None if mean is None else mean.sd,
        "interval": None if mean is None else mean.interval,
        "bounds": report.bounds,
        "label_mass": report.mass,
        "agreement": score_agreement_facts(agreement),
    }


def score_agreement_lines(agreement: "ScoreAgreement | None") -> Iterator[tuple[str, str]]:
    if agreement is None:
        yield "agreement", "unknown: no scored response belongs to a task of the microworld"
        return
    wrong = agreement.rows - agreement.right
    yield "checked", f"{agreement.rows:,} scored responses: {agreement.right:,} right, {wrong:,} wrong"
    if agreement.auc is not None:
        yield "AUC", f"{agreement.auc:.2f}{_interval(agreement.interval, '.2f')}; 0.5 is chance"
    yield "accuracy", f"{agreement.accuracy:.0%} at a threshold of 50; majority class: {agreement.majority:.0%}"
    yield "verdict", agreement.verdict


def score_agreement_facts(agreement: "ScoreAgreement | None") -> dict[str, Any] | None:
    if agreement is None:
        return None
    return {
        "rows": agreement.rows,
        "right": agreement.right,
        "auc": agreement.auc,
        "interval": agreement.interval,
        "accuracy": agreement.accuracy,
        "majority": agreement.majority,
        "verdict": agreement.verdict,
    }


# ---- pairs


def pair_lines(report: "PairReport", matched: "Matched", name: str) -> Iterator[tuple[str, str]]:
    counts = report.counts
    yield "judge", name
    unmatched = f"; unmatched: {matched.only_a:,} of A, {matched.only_b:,} of B"
    yield "pairs", f"{len(report.rows):,}" + (unmatched if matched.only_a or matched.only_b else "")
    if report.win_rate is not None and report.controlled is not None:
        yield "win rate", f"A {report.win_rate:.1%}{_interval(report.interval, '.1%')}"
        yield "controlled", f"A {report.controlled:.1%}{_interval(report.controlled_interval, '.1%')} at equal length"
    else:
        yield "win rate", "none: no pair has verdicts in both orders"
    ties = f"{counts['tie']:,} ties, " if counts["tie"] else ""
    yield "verdicts", f"A {counts['A']:,}, B {counts['B']:,}, {ties}{counts['inconsistent']:,} inconsistent"
    if counts["unread"] and report.bounds is not None:
        low, high = report.bounds
        yield "unparsed", f"{counts['unread']:,} pairs; the win rate is {low:.1%} to {high:.1%} whoever won them"
    if report.first_place is not None:
        yield "position", f"{report.first_place:.0%} of verdicts prefer the first position"
    yield "length", "A {:,.0f}, B {:,.0f} characters on average".format(*report.letters)


def pair_facts(report: "PairReport", matched: "Matched", agreement: "PairAgreement | None") -> dict[str, Any]:
    counts = report.counts
    return {
        "pairs": len(report.rows),
        "only_a": matched.only_a,
        "only_b": matched.only_b,
        "wins_a": counts["A"],
        "wins_b": counts["B"],
        "ties": counts["tie"],
        "inconsistent": counts["inconsistent"],
        "unread": counts["unread"],
        "win_rate": report.win_rate,
        "interval": report.interval,
        "controlled": report.controlled,
        "controlled_interval": report.controlled_interval,
        "bounds": report.bounds,
        "first_place": report.first_place,
        "letters": report.letters,
        "agreement": pair_agreement_facts(agreement),
    }


def pair_agreement_lines(agreement: "PairAgreement | None") -> Iterator[tuple[str, str]]:
    if agreement is None:
        yield "agreement", "unknown: no pair has one right and one wrong response"
        return
    yield (
        "agreement",
        f"the right response won {agreement.share:.0%}{_interval(agreement.interval, '.0%')} of "
        f"{agreement.pairs:,} pairs with one right response; {agreement.inconsistent:,} inconsistent",
    )


def pair_agreement_facts(agreement: "PairAgreement | None") -> dict[str, Any] | None:
    if agreement is None:
        return None
    return {
        "pairs": agreement.pairs,
        "agreed": agreement.agreed,
        "inconsistent": agreement.inconsistent,
        "share": agreement.share,
        "interval": agreement.interval,
    }


# ---- exact checking


def exact_lines(report: "ExactReport", against: str) -> Iterator[tuple[str, str]]:
    from mlx_suite.microworld import Verdict

    counts = report.counts
    if report.share is None:
        yield "right", "unknown for all rows"
    else:
        share = f"{report.share:.1%}{_interval(report.interval, '.1%')}"
        yield "right", f"{counts[Verdict.RIGHT]:,} of {report.known:,}, {share}"
    if counts[Verdict.UNKNOWN]:
        why = "not a task of the microworld" if against == "world" else "no reference"
        yield "unknown", f"{counts[Verdict.UNKNOWN]:,} rows: {why}"
    if report.cut_off:
        yield "truncated", f"{report.cut_off:,} responses did not end with a stop token"
    for name, (right, total) in report.by("category").items():
        yield "", f"{name:<20} {right:>4,} of {total:>4,}  {right / total:>4.0%}"


def exact_facts(report: "ExactReport") -> dict[str, Any]:
    from mlx_suite.microworld import Verdict

    return {
        "rows": len(report.rows),
        "right": report.counts[Verdict.RIGHT],
        "wrong": report.counts[Verdict.WRONG],
        "unknown": report.counts[Verdict.UNKNOWN],
        "share": report.share,
        "interval": report.interval,
        "cut_off": report.cut_off,
        "by_category": report.by("category"),
        "by_task": report.by("task"),
    }
