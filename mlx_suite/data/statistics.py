"""Statistics with uncertainty: means with confidence intervals, bootstrap, AUC and Cohen's kappa."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

Z = 1.959964
"""Half-width of a 95 % interval of the normal distribution, in standard errors."""
RESAMPLES = 1000
BLOCK = 20

Numbers = npt.NDArray[np.float64]
Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean with its standard deviation and count."""

    mean: float
    sd: float | None
    """Sample standard deviation (n − 1); None for a single number."""
    count: int

    @property
    def interval(self) -> Interval | None:
        """95 % interval by the normal approximation, which is rough for fewer than 30 numbers."""
        if self.sd is None:
            return None
        half = Z * self.sd / sqrt(self.count)
        return self.mean - half, self.mean + half


def mean_of(numbers: Sequence[float]) -> Mean | None:
    """Mean and standard deviation of `numbers`; None if there are none."""
    if not numbers:
        return None
    array = np.asarray(numbers, dtype=np.float64)
    sd = float(array.std(ddof=1)) if len(array) > 1 else None
    return Mean(mean=float(array.mean()), sd=sd, count=len(array))


def share_interval(part: int, whole: int) -> Interval | None:
    """95 % interval of a share by Wilson's score method (1927), which stays within [0, 1]."""
    if whole == 0:
        return None
    share, z2 = part / whole, Z * Z
    middle = (share + z2 / (2 * whole)) / (1 + z2 / whole)
    half = Z / (1 + z2 / whole) * sqrt(share * (1 - share) / whole + z2 / (4 * whole * whole))
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap(
    figure: Callable[[npt.NDArray[np.intp]], Numbers], count: int, seed: int, resamples: int = RESAMPLES
) -> Interval | None:
    """95 % bootstrap interval of a figure of `count` rows (percentile method); None for fewer than two rows.

    `figure` takes row numbers, (resamples, count), and returns the figure of each resample, (resamples,), NaN where it
    is undefined.
    """
    if count < 2:
        return None
    rng = np.random.default_rng(seed)
    values = figure(rng.integers(0, count, size=(resamples, count)))
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def auc(scores: Sequence[float], right: Sequence[bool]) -> float | None:
    """Probability that a right answer has a higher score than a wrong one, ties counting half (Mann and Whitney 1947).

    A random judge has 0.5. None if all answers are right or all are wrong.
    """
    values, labels = np.asarray(scores, dtype=np.float64), np.asarray(right, dtype=bool)
    positive, negative = values[labels], values[~labels]
    if not len(positive) or not len(negative):
        return None
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, side="left")
    upto = np.searchsorted(ordered, positive, side="right")
    return float((below + upto).sum() / 2 / (len(positive) * len(negative)))


def auc_interval(scores: Sequence[float], right: Sequence[bool], seed: int) -> Interval | None:
    """95 % bootstrap interval of `auc`."""
    values, labels = np.asarray(scores, dtype=np.float64), np.asarray(right, dtype=bool)

    def figure(rows: npt.NDArray[np.intp]) -> Numbers:
        found = (auc(values[row].tolist(), labels[row].tolist()) for row in rows)
        return np.array([np.nan if each is None else each for each in found])

    return bootstrap(figure, len(values), seed)


def cohen_kappa(matrix: npt.NDArray[np.int64], cost: npt.NDArray[np.float64]) -> float | None:
    """Cohen's kappa (1960): 1 minus the ratio of observed to expected cost of disagreement.

    Args:
        matrix: (C, C) counts, one rater's labels in rows, the other's in columns.
        cost: (C, C) cost of each disagreement, 0 on the diagonal; quadratic for ordered labels (1968).

    None if the matrix is empty or only one label occurs.
    """
    total = matrix.sum()
    if total == 0:
        return None
    chance = np.outer(matrix.sum(axis=1), matrix.sum(axis=0)) / total
    expected = float((cost * chance).sum())
    return None if expected == 0.0 else 1.0 - float((cost * matrix).sum()) / expected


def histogram(scores: Sequence[float], low: float = 0.0, high: float = 100.0, bins: int = 10) -> list[str]:
    """Text histogram, one line per bin with range, bar and count. The last bin includes `high`."""
    edges = np.linspace(low, high, bins + 1)
    counts = np.histogram(np.asarray(scores, dtype=np.float64), bins=edges)[0].tolist()
    most = max([*counts, 1])
    return [
        f"{start:>3.0f}–{end:<3.0f}  {'█' * max(round(BLOCK * count / most), count > 0):<{BLOCK}} {count}"
        for start, end, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
