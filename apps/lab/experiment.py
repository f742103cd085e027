"""Measured experiments: each file in `experiments/` defines one as `EXPERIMENT`, named like the file.

An experiment lists its cases, measures one at a time, and says what all results show together. Everything else is done
here and in `measure`: results are kept as they come, so that a killed run resumes and seeds can be added; tables,
charts, verdict and pages have one form. Example:

    EXPERIMENT = Experiment(
        title="Does it matter?",
        about="What is compared, on what, and how it is measured.",
        cases=lambda options: over_seeds(options, {"with": {"x": 1}, "without": {"x": 0}}),
        run=lambda case, place: {"loss": measure(case.settings["x"], case.seed)},
        tell=lambda results: Findings(verdict=("…",), tables=(…,), charts=(…,)),
        not_shown="Larger models.",
    )
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from mlx_suite.curation.report.lines import Line, LinePoint

from .verdict import Result, Spread

FOLDER = Path(__file__).parent / "experiments"
SEEDS = 3
"""Seeds of an experiment, where --seeds does not say otherwise; a quick version has one."""
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")


@dataclass(frozen=True, kw_only=True)
class LabOptions:
    """What the command line says of an experiment."""

    quick: bool = False
    """A version of one or two minutes, too small for a verdict."""
    seeds: int = SEEDS
    model: str = ""
    """A checkpoint of the user's, for experiments that can use one."""
    text: str = ""
    """A text file of the user's, to measure that checkpoint on."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing to measure: an arm with one seed."""

    arm: str
    """Lower-case letters, digits, dots and hyphens: it names the folder too."""
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What the result depends on, as JSON values. A kept result of other settings is refused."""

    def __post_init__(self) -> None:
        assert _NAME.fullmatch(self.arm), f"{self.arm!r} is no name of a folder"

    @property
    def name(self) -> str:
        return f"{self.arm}-{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """Where a case is measured."""

    folder: Path
    """Of this case alone; what a killed run left in it may be resumed."""
    shared: Path
    """Of all cases, for a corpus or a tokenizer: files here are written whole or not at all."""
    options: LabOptions


@dataclass(frozen=True, kw_only=True)
class ResultTable:
    """A table of results; cells are formatted."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ResultChart:
    """A line chart of results."""

    name: str
    """Of the file of the figure: lower-case letters, digits and hyphens."""
    title: str
    lines: tuple[Line, ...]
    x_label: str
    y_label: str
    log_x: bool = False
    log_y: bool = False
    from_zero: bool = True
    """Whether the vertical axis begins at 0; without effect if it is logarithmic."""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What the results of an experiment show."""

    verdict: tuple[str, ...]
    """Sentences, the main one first."""
    tables: tuple[ResultTable, ...] = ()
    charts: tuple[ResultChart, ...] = ()

    def __add__(self, other: "Findings") -> "Findings":
        return Findings(
            verdict=self.verdict + other.verdict,
            tables=self.tables + other.tables,
            charts=self.charts + other.charts,
        )


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A question and how it is measured."""

    title: str
    about: str
    """What is compared, on what, and how it is measured: a paragraph, or several separated by blank lines."""
    cases: Callable[[LabOptions], Sequence[Case]]
    """Everything to measure, in an order in which an unfinished run already compares all arms."""
    run: Callable[[Case, Workplace], Mapping[str, Any]]
    """Measures one case; returns JSON values. Raises KeyboardInterrupt if a training run in it was stopped."""
    tell: Callable[[Sequence[Result]], Findings]
    """Says what the results show. A result holds the returned values, and `arm`, `seed`, `settings` and `seconds`."""
    not_shown: str
    """One or two sentences on what the experiment does not show."""
    takes_model: bool = False
    """Whether --model and --text are used."""


def experiment_names() -> tuple[str, ...]:
    """Names of all experiments, in alphabetical order."""
    return tuple(sorted(path.stem for path in FOLDER.glob("[a-z]*.py")))


def read_experiment(name: str) -> Experiment:
    """The experiment of that name, which exists."""
    experiment: Experiment = import_module(f".experiments.{name}", __package__).EXPERIMENT
    return experiment


def over_seeds(options: LabOptions, arms: Mapping[str, Mapping[str, Any]]) -> list[Case]:
    """Every arm with every seed, seed by seed."""
    return [
        Case(arm=arm, seed=seed, settings=settings) for seed in range(options.seeds) for arm, settings in arms.items()
    ]


# ---- for `tell`


def arms_of(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Results of each arm, arms in order of appearance."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result["arm"], []).append(result)
    return groups


def spread(results: Sequence[Result], key: str) -> Spread:
    """Mean and standard deviation of one measured value over seeds."""
    return Spread.of([result[key] for result in results])


def line_of(name: str, hue: int, series: Sequence[Sequence[tuple[float, float]]], *, dashed: bool = False) -> Line:
    """A line through the means of several series of (x, y), one per seed, with the same x."""
    assert series and len({tuple(x for x, _ in each) for each in series}) == 1, "series with different x"
    spreads = [(place[0][0], Spread.of([y for _, y in place])) for place in zip(*series, strict=True)]
    return line_through(name, hue, spreads, dashed=dashed)


def line_through(name: str, hue: int, points: Sequence[tuple[float, Spread]], *, dashed: bool = False) -> Line:
    """A line through points whose spread is known."""
    return Line(
        name=name, hue=hue, points=tuple(LinePoint(x=x, y=each.mean, sd=each.sd) for x, each in points), dashed=dashed
    )


def compared(what: str, arm: str, other: str, found: Mapping[str, Spread], digits: int = 3) -> str:
    """A sentence that compares two arms: their means, and whether they clearly differ."""
    a, b = found[arm], found[other]
    text = f"{what}: {arm} {a.shown(digits)}, {other} {b.shown(digits)}"
    if min(a.count, b.count) < 2:
        return f"{text} (one seed: the difference may be chance)."
    if not a.clearly_differs(b):
        return f"{text}: no clear difference."
    return f"{text}: clearly {'lower' if a.mean < b.mean else 'higher'}."
