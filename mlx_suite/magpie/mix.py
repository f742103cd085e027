"""Several settings of sampling in one run, each for its share of the rows.

The paper's released sets are such mixes (arXiv 2406.08464, section 2.1): most rows at temperature 1, some hotter ones
for variety. Which setting a row has depends on its number alone.
"""

import hashlib
import math
import re
from dataclasses import dataclass
from itertools import accumulate

from mlx_suite.runtime.errors import UserError

_PART = re.compile(r"\s*([0-9.]+)\s*(?:/\s*([0-9.]+))?\s*(?::\s*([0-9.]+))?\s*")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How instructions are drawn."""

    temperature: float
    top_p: float = 1.0
    weight: float = 1.0
    """Its share among the settings of a mix."""


def parse_mix(text: str) -> tuple[Setting, ...]:
    """Settings from `temperature/top_p:weight`, separated by commas: "1.0/1.0:3, 1.2/0.995:1".

    Without a top_p or a weight either is 1. Raises UserError that names every part that is none.
    """
    settings, problems = [], []
    for part in text.split(","):
        try:
            settings.append(_setting(part))
        except ValueError as error:
            problems.append(f"{part.strip()!r}: {error}")
    if problems:
        raise UserError(
            "The mix of settings cannot be read",
            where="--mix",
            fix="write temperature/top_p:weight with commas between: --mix 1.0/1.0:3,1.2/0.995:1",
            details=problems,
        )
    return tuple(settings)


def setting_of(settings: tuple[Setting, ...], seed: int, index: int) -> Setting:
    """The setting of a row, drawn in proportion to the weights from nothing but seed and number."""
    sums = list(accumulate(setting.weight for setting in settings))
    place = uniform_of("mix", seed, index) * sums[-1]
    return next(setting for setting, end in zip(settings, sums, strict=True) if place < end)


def uniform_of(purpose: str, seed: int, index: int) -> float:
    """A number in [0, 1) that depends on nothing else."""
    digest = hashlib.blake2b(f"{purpose}/{seed}/{index}".encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48


def _setting(part: str) -> Setting:
    match = _PART.fullmatch(part)
    if match is None:
        raise ValueError("not of the form temperature/top_p:weight")
    temperature, top_p, weight = (float(each) if each else 1.0 for each in match.groups())
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p:g}, which must be above 0 and at most 1")
    if not (weight > 0 and math.isfinite(weight)):
        raise ValueError(f"the weight is {weight:g}, which must be above 0")
    return Setting(temperature=temperature, top_p=top_p, weight=weight)
