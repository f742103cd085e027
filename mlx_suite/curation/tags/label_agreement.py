"""Agreement of labels with the truth: accuracy, Cohen's kappa, F1, confusion matrix, calibration error.

Shapes: N rows, C labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mlx_suite.data.statistics import Interval, cohen_kappa, share_interval

BINS = 10
"""Number of confidence bins of the calibration error."""
RELIABLE, USABLE = 0.8, 0.6
"""Minimum kappa of reliable labels, and of labels that are good enough to filter by."""


@dataclass(frozen=True, kw_only=True)
class JudgedRow:
    """One row's true label and the model's."""

    truth: str
    label: str | None
    """The model's label; None if its reply could not be parsed."""
    confidence: float | None = None
    """Probability of `label`."""


@dataclass(frozen=True, kw_only=True)
class LabelAgreement:
    """Agreement of labels with the truth. An unparsable reply counts as wrong, but is left out of kappa and F1."""

    labels: tuple[str, ...]
    rows: int
    read: int
    """Number of rows with a label."""
    agreed: int
    matrix: tuple[tuple[int, ...], ...]
    """(C, C) confusion matrix: true labels down, the model's across."""
    kappa: float | None
    """Cohen's kappa (1960): agreement beyond chance; 1 is perfect, 0 is chance. None if only one label occurs."""
    weighted_kappa: float | None
    """Kappa with quadratic weights (1968), in which near misses count less. None for unordered labels."""
    macro_f1: float | None
    """Mean F1 over the labels that occur in the truth."""
    confidence_right: float | None
    """Mean confidence of rows whose label agrees."""
    confidence_wrong: float | None
    """Mean confidence of rows whose label disagrees."""
    calibration_error: float | None
    """Expected calibration error (arXiv 1706.04599, section 2)."""

    @property
    def share(self) -> float:
        return self.agreed / max(self.rows, 1)

    @property
    def interval(self) -> Interval | None:
        """95 % confidence interval of the agreement."""
        return share_interval(self.agreed, self.rows)

    @property
    def parse_rate(self) -> float:
        return self.read / max(self.rows, 1)

    @property
    def majority(self) -> float:
        """Majority baseline: share of the most frequent true label."""
        return max((sum(line) for line in self.matrix), default=0) / max(self.read, 1)

    @property
    def verdict(self) -> str:
        """Interpretation of kappa for the tags."""
        kappa = self.kappa if self.weighted_kappa is None else self.weighted_kappa
        if kappa is None:
            return "undefined: only one label occurs"
        if kappa >= RELIABLE:
            return "reliable"
        if kappa >= USABLE:
            return "good enough to filter by"
        return "weak: right only on average" if kappa > 0.2 else "no better than guessing"

    def as_dict(self) -> dict[str, Any]:
        """JSON object."""
        return {
            "rows": self.rows,
            "parse_rate": self.parse_rate,
            "agreement": self.share,
            "interval": self.interval,
            "majority": self.majority,
            "kappa": self.kappa,
            "weighted_kappa": self.weighted_kappa,
            "macro_f1": self.macro_f1,
            "confidence_right": self.confidence_right,
            "confidence_wrong": self.confidence_wrong,
            "calibration_error": self.calibration_error,
            "labels": self.labels,
            "matrix": self.matrix,
            "verdict": self.verdict,
        }


def label_agreement(labels: Sequence[str], rows: Sequence[JudgedRow], *, scale: bool) -> LabelAgreement:
    """Compare labels with the truth. `scale`: the labels are ordered, the lowest first."""
    number = {label: place for place, label in enumerate(labels)}
    matrix = np.zeros((len(labels), len(labels)), np.int64)
    for row in rows:
        if row.label is not None:
            matrix[number[row.truth], number[row.label]] += 1
    sure = [(row.confidence, row.label == row.truth) for row in rows if row.confidence is not None]
    plain = 1.0 - np.eye(len(labels))
    steps = np.subtract.outer(np.arange(len(labels)), np.arange(len(labels))) ** 2.0
    return LabelAgreement(
        labels=tuple(labels),
        rows=len(rows),
        read=int(matrix.sum()),
        agreed=int(matrix.trace()),
        matrix=tuple(tuple(int(cell) for cell in line) for line in matrix),
        kappa=cohen_kappa(matrix, plain),
        weighted_kappa=cohen_kappa(matrix, steps) if scale else None,
        macro_f1=_macro_f1(matrix),
        confidence_right=_mean([confidence for confidence, right in sure if right]),
        confidence_wrong=_mean([confidence for confidence, right in sure if not right]),
        calibration_error=_calibration_error(sure),
    )


def same_labels(one: Sequence[str], other: Sequence[str]) -> float | None:
    """Share of rows with the same label in both lists; None without rows."""
    return _mean([float(a == b) for a, b in zip(one, other, strict=True)])


def _macro_f1(matrix: npt.NDArray[np.int64]) -> float | None:
    true, given, right = matrix.sum(axis=1), matrix.sum(axis=0), np.diagonal(matrix)
    occurring = true > 0
    return _mean((2.0 * right / np.maximum(true + given, 1))[occurring].tolist())


def _calibration_error(sure: Sequence[tuple[float, bool]]) -> float | None:
    bins: dict[int, list[tuple[float, bool]]] = {}
    for confidence, right in sure:
        bins.setdefault(min(int(confidence * BINS), BINS - 1), []).append((confidence, right))
    gaps = [abs(sum(confidence - right for confidence, right in each)) for each in bins.values()]
    return sum(gaps) / len(sure) if sure else None


def _mean(numbers: Sequence[float]) -> float | None:
    return sum(numbers) / len(numbers) if numbers else None
