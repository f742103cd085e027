"""Settings of a filter, and the filters of the Magpie paper as presets."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mlx_suite.runtime.errors import UserError, check_rules, nearest_name

KEEP_FIRST = ("exact", "lexical", "cosine")
TAU1, TAU2 = -12.0, 0.0
"""The paper's thresholds, for FsfairX-LLaMA3-RM-v0.1; other reward models have other scales."""


@dataclass(frozen=True, kw_only=True)
class FilterSettings:
    """Settings of a filter. The field docstrings are the command line's help."""

    where: tuple[str, ...] = ()
    """Condition that a row must meet: 'input_quality >= good', 'category in Math, Reasoning', 'answer_words >= 50'.
    May be repeated; all must hold."""
    preset: str = ""
    """Filter of the Magpie paper, table 5: air, pro, pro-f2, pro-f3, pro-f4, pro-f5 or pro-f6."""
    tau1: float = TAU1
    """Reward that rows must exceed in presets that use it. The default is the paper's, for its own reward model."""
    tau2: float = TAU2
    """Reward difference to the base model that rows must exceed in presets that use it."""
    confidence: float | None = None
    """Minimum probability of the tags used in conditions, or of all tags if no condition uses one. Default: no
    minimum."""
    keep_first: str = ""
    """Keep only the first of duplicate instructions: exact (same text), lexical (near-duplicates by words) or cosine
    (near-duplicates by the embeddings of a run). Default: keep all, except that a preset drops exact duplicates."""
    threshold: float | None = None
    """Similarity at which rows count as near-duplicates, above 0 and at most 1. Default for lexical: Jaccard 0.8.
    Cosine has no default, as it depends on the model; the report's plot of nearest rows helps to choose."""
    decontaminate: tuple[str, ...] = ()
    """Evaluation data: a file, folder or hub dataset, in any format that finetuning reads. Rows that contain one of its
    texts (13 words in a row, or all of a shorter one) are dropped. May be repeated."""
    per: tuple[str, ...] = ()
    """Maximum number of rows per label, drawn at random: category=100. May be repeated."""
    longest: int | None = None
    """Keep this many rows, those with the longest responses. Default: all, or the preset's number."""
    sample: int | None = None
    """Keep this many rows, drawn at random. Default: all."""
    seed: int = 0
    """Seed of the random draws."""

    def __post_init__(self) -> None:
        """Raises UserError that lists every invalid value."""
        count, share = "an integer of at least 1", "above 0 and at most 1"
        rules = {
            "longest": (_is_count(self.longest), count),
            "sample": (_is_count(self.sample), count),
            "confidence": (_is_share(self.confidence), share),
            "threshold": (
                self._threshold_fits,
                f"{share}; it is required with --keep-first cosine and allowed only with lexical or cosine",
            ),
            "tau1": (math.isfinite(self.tau1), "a number"),
            "tau2": (math.isfinite(self.tau2), "a number"),
            "per": (all(map(_is_quota, self.per)), "FIELD=ROWS, such as category=100"),
            "keep_first": (self.keep_first in ("", *KEEP_FIRST), f"one of {', '.join(KEEP_FIRST)}"),
        }
        check_rules(self, rules, "the settings of the filter", "mlx-suite magpie filter --help")

    @property
    def _threshold_fits(self) -> bool:
        if self.threshold is None:
            return self.keep_first != "cosine"
        return _is_share(self.threshold) and self.keep_first in ("lexical", "cosine")

    @property
    def quotas(self) -> tuple[tuple[str, int], ...]:
        """Pairs of field and maximum number of rows per label."""
        parts = (line.partition("=") for line in self.per)
        return tuple((name.strip(), int(count)) for name, _, count in parts)


def _is_quota(line: str) -> bool:
    name, _, count = line.partition("=")
    return bool(name.strip()) and count.strip().isdecimal() and int(count) >= 1


def _is_count(value: int | None) -> bool:
    return value is None or value >= 1


def _is_share(value: float | None) -> bool:
    return value is None or 0 < value <= 1


# ---- presets


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One filter of the paper."""

    where: tuple[str, ...] = ()
    """Conditions, with {tau1} and {tau2} for the thresholds."""
    halves: tuple[str, ...] = ()
    """Conditions whose rows each get an equal share of `longest`."""
    longest: int | None = 300_000
    """Number of rows to keep; None keeps all."""

    def conditions(self, tau1: float, tau2: float) -> tuple[str, ...]:
        """The conditions with the thresholds filled in."""
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
"""Table 5 of arXiv 2406.08464. All filters also require a distance above 0 to the nearest other row, that is, no
duplicates. The numbers of rows are for sets of one to three million."""


def preset_named(name: str) -> Preset:
    """The preset of this name. Raises UserError that suggests the nearest name."""
    if name in PRESETS:
        return PRESETS[name]
    raise UserError(f"There is no preset {name!r}", where="--preset", fix=nearest_name(name, PRESETS, cutoff=0.4))
