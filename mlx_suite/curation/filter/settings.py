"""What a user asks of a filter."""

import math
from dataclasses import dataclass

from mlx_suite.curation.filter.presets import TAU1, TAU2
from mlx_suite.runtime.rules import check_rules

KEEP_FIRST = ("exact", "lexical", "cosine")


@dataclass(frozen=True, kw_only=True)
class FilterSettings:
    """Settings of a filter. The docstrings of the fields are the help of the command line."""

    where: tuple[str, ...] = ()
    """What a row must be like: 'input_quality >= good', 'category in Math, Reasoning', 'answer_words >= 50'. May be
    given several times; all must hold."""
    preset: str = ""
    """A filter of the Magpie paper, table 5: air, pro, pro-f2, pro-f3, pro-f4, pro-f5 or pro-f6."""
    tau1: float = TAU1
    """The reward that the preset asks for. The paper's is of its own reward model."""
    tau2: float = TAU2
    """The difference to a base model's reward that the preset asks for."""
    confidence: float | None = None
    """Least probability of the tags that conditions ask for; of all tags where none do."""
    keep_first: str = ""
    """Of rows that are alike keep the first: exact, the same text; lexical, nearly the same words; cosine, nearly the
    same meaning, by the embeddings of a run."""
    threshold: float | None = None
    """From which similarity on rows are alike: by default 0.8 for lexical, the share of words in common. Which cosine
    means the same depends on the model, so it has no default; the report's plot of nearest rows shows it."""
    per: tuple[str, ...] = ()
    """At most so many rows of each label, drawn by the seed: category=100. May be given several times."""
    longest: int | None = None
    """Keep the rows with the longest answers. A preset has a number of its own."""
    sample: int | None = None
    """Keep this many rows, drawn by the seed."""
    seed: int = 0
    """Any whole number; another one draws other rows."""

    def __post_init__(self) -> None:
        """Raises UserError that lists every wrong value."""
        count, share = "a whole number from 1 up", "above 0 and at most 1"
        rules = {
            "longest": (_counts(self.longest), count),
            "sample": (_counts(self.sample), count),
            "confidence": (_is_share(self.confidence), share),
            "threshold": (
                self._threshold_fits,
                f"{share}; cosine has no default, and without lexical or cosine nothing has one",
            ),
            "tau1": (math.isfinite(self.tau1), "a number"),
            "tau2": (math.isfinite(self.tau2), "a number"),
            "per": (all(map(_is_quota, self.per)), "FIELD=ROWS each, such as category=100"),
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
        """Fields and the rows per label."""
        found = (line.partition("=") for line in self.per)
        return tuple((name.strip(), int(count)) for name, _, count in found)


def _is_quota(line: str) -> bool:
    name, _, count = line.partition("=")
    return bool(name.strip()) and count.strip().isdecimal() and int(count) >= 1


def _counts(value: int | None) -> bool:
    return value is None or value >= 1


def _is_share(value: float | None) -> bool:
    return value is None or 0 < value <= 1
