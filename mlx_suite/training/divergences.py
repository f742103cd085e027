"""Divergences between the distributions of a teacher p and a student q, with their derivatives by the student's logits.

    forward   KL(p‖q) = Σ p · log(p / q)          mode-covering: the student puts mass wherever the teacher does
    reverse   KL(q‖p) = Σ q · log(q / p)          mode-seeking: it avoids what the teacher would not say
    jsd       β · KL(p‖m) + (1−β) · KL(q‖m), m = β · p + (1−β) · q

The generalized Jensen-Shannon divergence is that of GKD (arXiv 2306.13649, section 2). It tends to 0 for β → 0 and
β → 1; divided by β, or by 1−β, it tends to the forward and to the reverse KL. β = 0 and β = 1 are therefore defined as
these two, and the loss is not continuous there.

For f(q) with g = ∂f/∂q, the derivative by a logit is q · (g − Σ q · g): forward q − p, reverse
q · (log(q/p) − KL(q‖p)), jsd (1−β) · q · (log(q/m) − KL(q‖m)).

Shapes: T rows, V vocabulary, N draws. Distributions are lists of (T, columns) over slices of the vocabulary.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import mlx.core as mx

from mlx_suite.training.chunked_head import Exponentials

Slices = list[mx.array]
Divergence = tuple[mx.array, Slices]
"""Value (T,) in nats, and the derivative by each of the student's logits, (T, columns) for each slice."""


class Softmax:
    """Probabilities of T rows from their logits, divided by a temperature."""

    def __init__(self, logits: Sequence[mx.array], temperature: float = 1.0) -> None:
        self.logits = list(logits) if temperature == 1.0 else [each * (1.0 / temperature) for each in logits]
        self.exponentials = Exponentials(self.logits)
        self._log_sum = self.exponentials.log_sum[:, None]
        self._factor = 1.0 / self.exponentials.sum[:, None]

    @property
    def probs(self) -> Slices:
        return [each * self._factor for each in self.exponentials.slices]

    @property
    def log_probs(self) -> Slices:
        return [each - self._log_sum for each in self.logits]


@dataclass(frozen=True, kw_only=True)
class SparseRows:
    """Some tokens of each row's vocabulary, with values."""

    ids: mx.array
    """(T, N) token ids."""
    values: mx.array
    """(T, N)"""

    def dense(self, widths: Sequence[int], values: mx.array | None = None) -> Slices:
        """The values as (T, columns) slices of these widths, zero elsewhere; a token that occurs twice has the sum."""
        values = self.values if values is None else values
        rows, start, slices = mx.arange(self.ids.shape[0])[:, None], 0, []
        for width in widths:
            inside = (self.ids >= start) & (self.ids < start + width)
            at = mx.where(inside, self.ids - start, 0)
            slices.append(mx.zeros((self.ids.shape[0], width)).at[rows, at].add(mx.where(inside, values, 0.0)))
            start += width
        return slices


def forward_kl(student: Softmax, teacher: Softmax) -> Divergence:
    """KL(p‖q)."""
    q, log_q, p, log_p = student.probs, student.log_probs, teacher.probs, teacher.log_probs
    value = _total(pi * (lp - lq) for pi, lp, lq in zip(p, log_p, log_q, strict=True))
    return value, [qi - pi for qi, pi in zip(q, p, strict=True)]


def reverse_kl(student: Softmax, teacher: Softmax) -> Divergence:
    """KL(q‖p)."""
    q = student.probs
    ratios = [lq - lp for lq, lp in zip(student.log_probs, teacher.log_probs, strict=True)]
    return _reversed(q, ratios, 1.0)


def jensen_shannon(student: Softmax, teacher: Softmax, beta: float) -> Divergence:
    """The generalized Jensen-Shannon divergence; 0 < beta < 1."""
    assert 0.0 < beta < 1.0, beta
    log_beta, log_rest = math.log(beta), math.log1p(-beta)
    q, log_q, p, log_p = student.probs, student.log_probs, teacher.probs, teacher.log_probs
    log_m = [mx.logaddexp(lp + log_beta, lq + log_rest) for lp, lq in zip(log_p, log_q, strict=True)]
    to_teacher = _total(pi * (lp - lm) for pi, lp, lm in zip(p, log_p, log_m, strict=True))
    value, slopes = _reversed(q, [lq - lm for lq, lm in zip(log_q, log_m, strict=True)], 1.0 - beta)
    return beta * to_teacher + value, slopes


def sampled_kl(student: Softmax, draws: SparseRows, entropy: mx.array) -> Divergence:
    """An unbiased estimate of KL(p‖q) from weighted draws of p, whose gradient is unbiased too (arXiv 2503.16870).

    Each draw has a weight p / (N · proposal); E[Σ weights at a token] = p. `entropy` (T,) is the teacher's.
    """
    widths = [each.shape[1] for each in student.logits]
    p = draws.dense(widths)
    value = _total(pi * -lq for pi, lq in zip(p, student.log_probs, strict=True)) - entropy
    total = draws.values.sum(axis=-1, keepdims=True)
    return value, [total * qi - pi for qi, pi in zip(student.probs, p, strict=True)]


def top_k_kl(student: Softmax, top: SparseRows) -> Divergence:
    """KL(p‖q) over the teacher's K most probable tokens and one bucket for the rest. Biased.

    Merging tokens can only lower a divergence: how the student divides the bucket is not trained.
    """
    widths = [each.shape[1] for each in student.logits]
    q, log_q, p = student.probs, student.log_probs, top.dense(widths)
    kept = top.dense(widths, mx.ones(top.ids.shape))
    rest = mx.maximum(1.0 - top.values.sum(axis=-1), 0.0)  # (T,)
    own = mx.maximum(_total(qi * (1.0 - each) for qi, each in zip(q, kept, strict=True)), SMALLEST)
    entropy = _entropy(top.values, axis=-1) + _entropy(rest[:, None], axis=-1)
    value = _total(pi * -lq for pi, lq in zip(p, log_q, strict=True)) - rest * mx.log(own) - entropy
    outside = 1.0 - (rest / own)[:, None]
    return value, [mx.where(each > 0, qi - pi, qi * outside) for qi, pi, each in zip(q, p, kept, strict=True)]


SMALLEST = 1e-20
"""Smallest probability that is divided by."""


def _reversed(q: Slices, ratios: Slices, factor: float) -> Divergence:
    """factor · Σ q · ratio, for a ratio log(q / other) whose other side's derivative cancels."""
    value = _total(qi * ratio for qi, ratio in zip(q, ratios, strict=True))
    return factor * value, [factor * qi * (ratio - value[:, None]) for qi, ratio in zip(q, ratios, strict=True)]


def _entropy(probs: mx.array, axis: int) -> mx.array:
    return -(probs * mx.log(mx.maximum(probs, SMALLEST))).sum(axis=axis)


def _total(slices: Iterable[mx.array]) -> mx.array:
    """(T,) sum over the vocabulary."""
    total, *rest = (each.sum(axis=-1) for each in slices)
    for each in rest:
        total = total + each
    return total
