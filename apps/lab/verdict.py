"""What a lab found: mean and standard deviation of every arm, and a verdict in words.

Arms are compared with the control by Welch's t statistic of their seeds. A difference is called clear if |t| is at
least that of p = 0.05 for its degrees of freedom; with few seeds only large differences are.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .people import ASKED, NOT_ASKED, OPEN_BOOK, OTHERS, RECALL
from .recipe import LabRecipe

CONTROL = "repeat"
BITS = "bits per byte"
Result = Mapping[str, Any]
# Two-sided 5 % points of Student's t for 1, 2, … degrees of freedom.
_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Mean and standard deviation over seeds."""

    mean: float
    sd: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(
            mean=statistics.fmean(values), sd=statistics.stdev(values) if len(values) > 1 else 0.0, count=len(values)
        )

    def shown(self, digits: int = 3, factor: float = 1.0) -> str:
        """Mean ± standard deviation, multiplied by `factor`; the mean alone for a single value."""
        mean = f"{factor * self.mean:,.{digits}f}"
        return mean if self.count < 2 else f"{mean} ± {factor * self.sd:,.{digits}f}"

    def clearly_differs(self, other: "Spread") -> bool:
        """Welch's test at 5 %; False with a single seed on either side."""
        if min(self.count, other.count) < 2:
            return False
        errors = [each.sd**2 / each.count for each in (self, other)]
        spread = math.sqrt(sum(errors))
        difference = abs(self.mean - other.mean)
        if spread == 0:
            return difference > 0
        freedom = sum(errors) ** 2 / sum(
            error**2 / (each.count - 1) for error, each in zip(errors, (self, other), strict=True) if error
        )
        return difference / spread >= _T[min(int(freedom), len(_T)) - 1]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One column of the table."""

    name: str
    value: Callable[[Result], float | None]
    group: str = ""
    """Group of the questions that are counted; empty for bits per byte."""
    is_share: bool = True
    higher_is_better: bool = True

    def spread(self, results: Sequence[Result]) -> Spread | None:
        values = [value for result in results if (value := self.value(result)) is not None]
        return Spread.of(values) if values else None

    def shown(self, spread: Spread | None) -> str:
        """Mean ± standard deviation; a dash without a value."""
        if spread is None:
            return "–"
        return spread.shown(1, 100) if self.is_share else spread.shown()


def measures(recipe: LabRecipe) -> list[Measure]:
    """The columns of a recipe's table."""
    found = [
        Measure(
            name=BITS,
            value=lambda result: result["bits_per_byte"],
            is_share=False,
            higher_is_better=False,
        )
    ]
    if not recipe.asks:
        return found
    found.append(Measure(name="recall", group=RECALL, value=_share("scores", RECALL)))
    stages = {"scores": "before tuning"} | ({"tuned": "after tuning"} if recipe.tuning else {})
    for stage, when in stages.items():
        for group, title in (
            (OPEN_BOOK, "open book"),
            (ASKED, "asked"),
            (NOT_ASKED, "not asked"),
            (OTHERS, "other people"),
        ):
            found.append(Measure(name=f"{title}, {when}", group=group, value=_share(stage, group)))
    return found


def by_arm(results: Sequence[Result], recipe: LabRecipe) -> dict[str, list[Result]]:
    """Results of the arms in the recipe's order, without those of the sweep's other shares."""
    groups: dict[str, list[Result]] = {}
    for arm in recipe.arms:
        main = [r for r in results if r["arm"] == arm and r["seed"] < recipe.seeds]
        own = 1.0 if arm == "instruct-only" else recipe.share
        main = [r for r in main if r["share"] in (0.0, own)]
        if main:
            groups[arm] = main
    return groups


def sweep_of(results: Sequence[Result], recipe: LabRecipe) -> list[tuple[float, list[Result]]]:
    """Results of the sweep by synthetic share, with those of the control at share 0."""
    if recipe.sweep is None:
        return []
    groups: dict[float, list[Result]] = defaultdict(list)
    for result in results:
        if result["arm"] == recipe.sweep.arm:
            groups[result["share"]].append(result)
        elif result["arm"] == CONTROL:
            groups[0.0].append(result)
    return sorted(groups.items())


def verdict(results: Sequence[Result], recipe: LabRecipe, baseline: Mapping[str, float]) -> list[str]:
    """One sentence for each measure, then one for each question that the recipe can answer.

    Arms are not compared where none beats `baseline`, the share of right answers of the most frequent answer by group.
    """
    groups = by_arm(results, recipe)
    if CONTROL not in groups and "tenth" not in groups:
        return ["There is no control to compare with: add the arm repeat."]
    control = CONTROL if CONTROL in groups else "tenth"
    sentences = [_compared(measure, groups, control, baseline.get(measure.group)) for measure in measures(recipe)]
    if min(map(len, groups.values())) < 3:
        sentences.append("Fewer than three seeds: differences may be chance.")
    if "instruct-only" in groups and recipe.tuning is not None:
        sentences.append(_replaces_pretraining(groups, recipe))
    return sentences


def _compared(measure: Measure, groups: Mapping[str, Sequence[Result]], control: str, baseline: float | None) -> str:
    spreads = {arm: spread for arm, each in groups.items() if (spread := measure.spread(each)) is not None}
    base = spreads[control]
    sign = 1 if measure.higher_is_better else -1
    better = [a for a, s in spreads.items() if a != control and sign * (s.mean - base.mean) > 0]
    clear = [arm for arm in better if spreads[arm].clearly_differs(base)]
    worse = [
        arm
        for arm, spread in spreads.items()
        if arm != control and sign * (spread.mean - base.mean) < 0 and spread.clearly_differs(base)
    ]
    best = max(spreads, key=lambda arm: sign * spreads[arm].mean)
    name = f"{measure.name[0].upper()}{measure.name[1:]}"
    if baseline is not None and spreads[best].mean <= baseline:
        return f"{name}: no arm beats the most frequent answer with {100 * baseline:.1f}."
    if spreads[best].mean == base.mean:
        return f"{name}: no arm is better than {control} with {measure.shown(base)}."
    text = f"{name}: best is {best} with {measure.shown(spreads[best])}, {control} has {measure.shown(base)}"
    text += f"; clearly better than {control}: {', '.join(clear) or 'none'}"
    return f"{text}; clearly worse: {', '.join(worse)}." if worse else f"{text}."


def _replaces_pretraining(groups: Mapping[str, Sequence[Result]], recipe: LabRecipe) -> str:
    """The reader's question: can training on instructions alone replace pretraining followed by tuning?"""
    found = []
    for group in (ASKED, OTHERS, OPEN_BOOK):
        measure = Measure(name=group, value=_share("tuned", group))
        only, usual = measure.spread(groups["instruct-only"]), measure.spread(groups[CONTROL])
        assert only is not None and usual is not None
        found.append(f"{group} {measure.shown(only)} against {measure.shown(usual)}")
    return (
        "Instructions alone, at equal tokens, compared with raw text and then tuning: "
        + "; ".join(found)
        + ". What no pair says, a model trained on pairs alone cannot know."
    )


def _share(stage: str, group: str) -> Callable[[Result], float | None]:
    def value(result: Result) -> float | None:
        counts = result.get(stage, {}).get(group)
        return counts["right"] / counts["asked"] if counts and counts["asked"] else None

    return value
