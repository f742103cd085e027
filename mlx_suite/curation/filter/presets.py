"""The filters of the Magpie paper (arXiv 2406.08464, table 5) as conditions.

    set      input quality   difficulty             reward   reward difference   rows
    air      >= good         >= medium                       > tau2              the longest 300,000
    pro      >= average                             > tau1                       the longest 300,000
    pro-f2   >= good         >= easy                > tau1                       the longest 300,000
    pro-f3                                          > tau1                       the longest 300,000
    pro-f4   >= good         >= easy                         > tau2              the longest 300,000
    pro-f5   >= good         >= easy                > tau1                       all
    pro-f6                   half easy, half > easy > tau1                       the longest 200,000

All of them ask for a distance to the nearest other row above 0: that is, for no copies. The numbers of rows are those
of a million or three; of a smaller set `longest` takes its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from mlx_suite.runtime.errors import UserError, nearest_name

TAU1, TAU2 = -12.0, 0.0
"""The paper's thresholds, of FsfairX-LLaMA3-RM-v0.1; another reward model has another scale."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One line of the table."""

    where: tuple[str, ...]
    """Conditions; {tau1} and {tau2} stand for the thresholds."""
    halves: tuple[str, ...] = ()
    """Conditions that get an equal share of the rows each."""
    longest: int | None = 300_000
    """Rows to keep; None keeps all."""

    def conditions(self, tau1: float, tau2: float) -> tuple[str, ...]:
        """With the thresholds."""
        return tuple(line.format(tau1=f"{tau1:g}", tau2=f"{tau2:g}") for line in self.where)


PRESETS: Mapping[str, Preset] = {
    "air": Preset(where=("input_quality >= good", "difficulty >= medium", "reward_difference > {tau2}")),
    "pro": Preset(where=("input_quality >= average", "reward > {tau1}")),
    "pro-f2": Preset(where=("input_quality >= good", "difficulty >= easy", "reward > {tau1}")),
    "pro-f3": Preset(where=("reward > {tau1}",)),
    "pro-f4": Preset(where=("input_quality >= good", "difficulty >= easy", "reward_difference > {tau2}")),
    "pro-f5": Preset(where=("input_quality >= good", "difficulty >= easy", "reward > {tau1}"), longest=None),
    "pro-f6": Preset(where=("reward > {tau1}",), halves=("difficulty = easy", "difficulty > easy"), longest=200_000),
}


def preset_named(name: str) -> Preset:
    """Raises UserError with the nearest name where there is none."""
    if name in PRESETS:
        return PRESETS[name]
    fix = nearest_name(name, PRESETS, cutoff=0.4)
    raise UserError(f"there is no preset {name!r}", where="--preset", fix=fix)
