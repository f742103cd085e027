"""Memory, time and error of our chunked losses compared with losses that materialise all logits.

The plain side is what mlx-lm's trainer does: logits of all rows and MLX's cross-entropy, differentiated by MLX; in
distillation the logits of both models and MLX's KL divergence.

Shapes: M rows, d hidden size, V vocabulary.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import numpy.typing as npt

from mlx_suite.modeling.head import Head, Matrix
from mlx_suite.training.cut_cross_entropy import head_loss
from mlx_suite.training.distillation_head import Objective, Targets, TeacherStates, distillation_loss

Numbers = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class HeadShape:
    """Shape of a head and of the batch that goes through it."""

    vocabulary: int
    hidden: int = 256
    """Hidden size d. Affects the time and the size of a trained head's gradient, not the size of the logits."""
    rows: int = 1024
    """Trained tokens M of the batch."""
    cap: float | None = None
    trained: bool = False
    """True if the head has a gradient (full finetuning), False if only the hidden states do (LoRA)."""
    teacher: bool = False
    """Whether the loss is the forward KL of a teacher with a head of the same shape, instead of the cross-entropy."""


LLAMA3 = HeadShape(vocabulary=128256)
GEMMA2 = HeadShape(vocabulary=256000, cap=30.0)


@dataclass(frozen=True, kw_only=True)
class HeadCost:
    """Cost of one loss and its gradients."""

    peak_bytes: int
    """Peak memory beyond hidden states and head, gradients included."""
    milliseconds: float
    loss_error: float
    """Distance of the mean loss from double precision, in nats."""
    gradient_error: float
    """Largest error of a gradient's element, relative to that gradient's largest element."""


@dataclass(frozen=True, kw_only=True)
class HeadMemory:
    """Ours and the plain loss on the same arrays."""

    shape: HeadShape
    ours: HeadCost
    plain: HeadCost

    @property
    def ratio(self) -> float:
        """Our peak over the plain loss's."""
        return self.ours.peak_bytes / self.plain.peak_bytes


def measure_head(shape: HeadShape, rounds: int = 2) -> HeadMemory:
    """Run both sides on random arrays; the time is the best of `rounds`, of which the first compiles."""
    mx.random.seed(0)
    hidden, weight = _random_head(shape)
    targets = mx.random.randint(0, shape.vocabulary, (shape.rows,))
    weights = mx.full((shape.rows,), 1.0 / shape.rows)
    teacher = _random_head(shape) if shape.teacher else None
    mx.eval(hidden, weight, targets, weights, teacher)

    def head_of(weight: mx.array, trained: bool) -> Head:
        return Head(matrices=(Matrix(weight=weight, trained=trained),), cap=shape.cap)

    def ours(hidden: mx.array, weight: mx.array) -> mx.array:
        head = head_of(weight, shape.trained)
        if teacher is None:
            return head_loss(hidden, targets, weights, head)
        states = TeacherStates(inputs=[teacher[0]], head=head_of(teacher[1], False))
        return distillation_loss(hidden, Targets(ids=targets, weights=weights), head, states, Objective())

    def logits(hidden: mx.array, weight: mx.array) -> mx.array:
        logits = hidden @ weight.T
        return logits if shape.cap is None else shape.cap * mx.tanh(logits / shape.cap)

    def plain(hidden: mx.array, weight: mx.array) -> mx.array:
        if teacher is None:
            return (nn.losses.cross_entropy(logits(hidden, weight), targets) * weights).sum()
        log_q, log_p = (nn.log_softmax(logits(*each), axis=-1) for each in ((hidden, weight), teacher))
        return (nn.losses.kl_div_loss(log_q, log_p, axis=-1) * weights).sum()

    arguments, which = (hidden, weight), (0, 1) if shape.trained else (0,)
    given = (np.array(each) for each in (hidden, weight, targets, *(teacher or ())))
    truth = _in_double_precision(shape, *given)
    return HeadMemory(
        shape=shape,
        ours=_cost(mx.compile(mx.value_and_grad(ours, which)), arguments, rounds, truth),
        plain=_cost(mx.compile(mx.value_and_grad(plain, which)), arguments, rounds, truth),
    )


def _random_head(shape: HeadShape) -> tuple[mx.array, mx.array]:
    """Hidden states and a matrix with logits of about ±4, as in a trained model."""
    hidden = mx.random.normal((shape.rows, shape.hidden))
    return hidden, mx.random.normal((shape.vocabulary, shape.hidden)) * (2.0 / shape.hidden**0.5)


def _cost(function: Callable[..., Any], arguments: tuple[mx.array, ...], rounds: int, truth: list[Numbers]) -> HeadCost:
    best, peak, result = float("inf"), 0, None
    for _ in range(rounds):
        result = None
        mx.clear_cache()
        mx.reset_peak_memory()
        before, started = mx.get_active_memory(), time.perf_counter()
        result = function(*arguments)
        mx.eval(result)
        best = min(best, time.perf_counter() - started)
        peak = mx.get_peak_memory() - before
    assert result is not None, "no rounds"
    loss, gradients = result
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)  # a single gradient comes without a tuple
    errors = [
        float(np.abs(np.array(gradient) - true).max() / np.abs(true).max())
        for gradient, true in zip(gradients, truth[1:], strict=True)
    ]
    return HeadCost(
        peak_bytes=peak,
        milliseconds=1e3 * best,
        loss_error=abs(float(loss.item()) - float(truth[0])),
        gradient_error=max(errors),
    )


def _in_double_precision(
    shape: HeadShape, hidden: Numbers, weight: Numbers, targets: Numbers, *teacher: Numbers
) -> list[Numbers]:
    """Compute the mean loss and its gradients in numpy, a few rows at a time."""
    weight = weight.astype(np.float64)
    loss, by_hidden, by_weight = np.zeros(()), np.zeros(hidden.shape), np.zeros(weight.shape if shape.trained else ())
    for start in range(0, shape.rows, 64):
        some = slice(start, start + 64)
        x, right = hidden[some].astype(np.float64), targets[some]
        row = np.arange(len(right))
        logits, log_probs = _log_probs(shape, x, weight)
        slope = 1.0 if shape.cap is None else 1.0 - (logits / shape.cap) ** 2
        gradient = np.exp(log_probs)
        if teacher:
            states, matrix = teacher
            log_p = _log_probs(shape, states[some].astype(np.float64), matrix.astype(np.float64))[1]
            p = np.exp(log_p)
            loss += (p * (log_p - log_probs)).sum() / shape.rows
            gradient -= p
        else:
            loss -= log_probs[row, right].sum() / shape.rows
            gradient[row, right] -= 1.0
        gradient *= slope / shape.rows
        by_hidden[some] = gradient @ weight
        if shape.trained:
            by_weight += gradient.T @ x
    return [loss, by_hidden, by_weight] if shape.trained else [loss, by_hidden]


def _log_probs(shape: HeadShape, hidden: Numbers, weight: Numbers) -> tuple[Numbers, Numbers]:
    """Logits and log-probabilities."""
    logits = hidden @ weight.T
    if shape.cap is not None:
        logits = shape.cap * np.tanh(logits / shape.cap)
    shifted = logits - logits.max(axis=1, keepdims=True)
    return logits, shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
