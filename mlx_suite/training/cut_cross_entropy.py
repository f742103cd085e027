"""Cross-entropy straight from hidden states, without the logits of all tokens at a time.

After Cut Cross-Entropy (arXiv 2411.09009) in idea: logits are made for a few rows, used, and dropped. Here the loss and
its gradients are made in the same pass, and the backward pass only scales what lies there. Logits made a second time in
the backward pass would need less code, but a third to all of that time again (measured on the CPU: a product and the
exponentials; the more, the smaller the hidden size).

Products with the vocabulary as their inner dimension are cut as well: Metal's matmul splits so long ones badly
(mlx issue 1363).

Shapes: M rows, T rows of a chunk, d hidden size, k what a matrix is multiplied with (d or an adapter's rank), V
vocabulary.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from mlx_suite.modeling.fast_math import exp_below_zero, softcap
from mlx_suite.modeling.head import Arrays, Head, head_of

__all__ = ["head_loss", "head_loss_alone", "head_of"]

LOGITS = 2**23
"""Logits that are there at a time, 32 MiB in fp32: on the CPU more of them are no faster (measured up to 2**24)."""
FEWEST_ROWS = 128
"""But no fewer rows at a time than these, of Llama 3's and Gemma's vocabularies: expanding a bf16 matrix moves as many
bytes as some dozens of rows cost to multiply."""
VOCAB_CHUNK = 8192
"""Rows of a matrix that are expanded to fp32 at a time, and the longest inner dimension."""


def head_loss(hidden: mx.array, targets: mx.array, weights: mx.array, head: Head) -> mx.array:
    """Σ weight · −log p(target) in nats, fp32, with the gradients made on the way.

    For training: without a backward pass the gradients are wasted, see `head_loss_alone`.

    Args:
        hidden: (M, d) behind the final norm.
        targets: (M,) token ids.
        weights: (M,) what each counts; a constant for the gradient.
    """

    def run(inputs: list[mx.array], learned: Arrays) -> tuple[mx.array, list[mx.array], Arrays]:
        return _Pass(head.with_learned(learned), inputs, targets, weights).loss_and_gradients()

    function = mx.custom_function(run)

    @function.vjp
    def _(primals: Any, cotangents: Any, outputs: Any) -> Any:
        factor = cotangents[0]
        _, inputs, learned = outputs
        return (
            [(factor * each).astype(primal.dtype) for each, primal in zip(inputs, primals[0], strict=True)],
            {name: factor * gradient for name, gradient in learned.items()},
        )

    outputs: Any = function(head.inputs(hidden), head.learned)
    loss: mx.array = outputs[0]
    return loss


def head_loss_alone(hidden: mx.array, targets: mx.array, weights: mx.array, head: Head) -> mx.array:
    """What `head_loss` gives, for looking at a model: no gradients are made."""
    return _Pass(head, head.inputs(hidden), targets, weights).loss()


@dataclass
class _Pass:
    """The loss of all rows, a chunk of them after the other."""

    head: Head
    inputs: list[mx.array]
    """(M, k) for each matrix."""
    targets: mx.array
    weights: mx.array

    def loss(self) -> mx.array:
        loss = mx.array(0.0)
        for rows in self._chunks():
            # Without this all chunks would be made at once: nothing else puts one behind the other.
            inputs = mx.depends(self._part(rows), [loss])
            loss = loss + _Chunk(self.head, inputs, self.targets[rows], self.weights[rows]).loss
        return loss

    def loss_and_gradients(self) -> tuple[mx.array, list[mx.array], Arrays]:
        """The loss, its gradients by the inputs (M, k), and by what the head learns; all in fp32."""
        loss = mx.array(0.0)
        learned = {name: mx.zeros(array.shape) for name, array in self.head.learned.items()}
        parts: list[list[mx.array]] = [[] for _ in self.inputs]
        last: list[mx.array] = []
        for rows in self._chunks():
            inputs = mx.depends(self._part(rows), [loss, *last, *learned.values()])
            chunk = _Chunk(self.head, inputs, self.targets[rows], self.weights[rows])
            loss = loss + chunk.loss
            last = chunk.add_gradients(learned)
            for part, gradient in zip(parts, last, strict=True):
                part.append(gradient)
        return loss, [mx.concatenate(part) for part in parts], learned

    def _chunks(self) -> Iterator[slice]:
        count, size = self.targets.shape[0], max(FEWEST_ROWS, LOGITS // self.head.vocabulary)
        # Equal chunks: 130 rows are two of 65, not 128 and 2.
        size = -(-count // -(-count // size))
        for start in range(0, count, size):
            yield slice(start, min(start + size, count))

    def _part(self, rows: slice) -> list[mx.array]:
        return [array[rows].astype(mx.float32) for array in self.inputs]


class _Chunk:
    """The logits of T rows, a list of (T, columns) over the vocabulary, and what follows from them.

    Logits are fp32 in a bf16 model too: a bf16 logit of 20 is off by up to 0.06, and the matrix has to be expanded for
    the gradient anyway.

    With r = weight / Σ e^logit, the gradient by a logit is r · e^logit, less the weight at the target. The factor r is
    put on the (T, k) side of each product and the target is taken off by its one row: no pass over (T, V) for either.
    """

    def __init__(self, head: Head, inputs: list[mx.array], targets: mx.array, weights: mx.array) -> None:
        self.head, self.inputs, self.targets, self.weights = head, inputs, targets, weights
        self.columns = [
            slice(start, min(start + VOCAB_CHUNK, head.vocabulary)) for start in range(0, head.vocabulary, VOCAB_CHUNK)
        ]
        self.products: list[mx.array] = []
        for columns in self.columns:
            self.products.append(self._products(columns, after=self.products[-1] if self.products else inputs[0]))
        self.logits = [self._logits(each, columns) for each, columns in zip(self.products, self.columns, strict=True)]
        self.right_products = self._products_at_targets()  # (T,)
        self.right = self._logits(self.right_products, targets)  # (T,)
        self.top = mx.stack([each.max(axis=-1) for each in self.logits]).max(axis=0)  # (T,)
        self.exponentials = [exp_below_zero(each - self.top[:, None]) for each in self.logits]
        self.sum = mx.stack([each.sum(axis=-1) for each in self.exponentials]).sum(axis=0)  # (T,)

    @property
    def loss(self) -> mx.array:
        """Σ weight · −log p(target)."""
        return (self.weights * (self.top - self.right + mx.log(self.sum))).sum()

    def add_gradients(self, learned: Arrays) -> list[mx.array]:
        """Add to `learned` what these rows give, part of the vocabulary by part; the gradients by the inputs."""
        head = self.head
        factor = self.weights / self.sum  # r
        by_inputs = [mx.zeros(each.shape) for each in self.inputs]
        for columns, exponentials, logits, products in zip(
            self.columns, self.exponentials, self.logits, self.products, strict=True
        ):
            last = self.sum if columns is self.columns[0] else by_inputs[0]
            slope = exponentials * self._slope(logits)  # (T, columns)
            if "bias" in learned:
                _add(learned, "bias", columns, factor @ slope)
            if head.gain is not None:
                _add(learned, "gain", columns, factor @ (slope * products))
                slope = slope * head.gain[columns]
            for i, matrix in enumerate(head.after(last).matrices):
                by_inputs[i] = by_inputs[i] + slope @ matrix.rows(columns)
                if str(i) in learned:
                    _add(learned, str(i), columns, slope.T @ (factor[:, None] * self.inputs[i]))
        by_inputs = [factor[:, None] * each for each in by_inputs]
        return self._take_off_targets(by_inputs, learned)

    def _take_off_targets(self, by_inputs: list[mx.array], learned: Arrays) -> list[mx.array]:
        slope = self.weights * self._slope(self.right)  # (T,)
        if "bias" in learned:
            _add(learned, "bias", self.targets, -slope)
        if self.head.gain is not None:
            _add(learned, "gain", self.targets, -slope * self.right_products)
            slope = slope * self.head.gain[self.targets]
        for i, matrix in enumerate(self.head.matrices):
            by_inputs[i] = by_inputs[i] - slope[:, None] * matrix.rows(self.targets)
            if str(i) in learned:
                _add(learned, str(i), self.targets, -slope[:, None] * self.inputs[i])
        return by_inputs

    def _products(self, columns: slice, after: mx.array) -> mx.array:
        """Σ inputs @ matrixᵀ, (T, columns)."""
        pairs = zip(self.inputs, self.head.after(after).matrices, strict=True)
        return _sum([x @ matrix.rows(columns).T for x, matrix in pairs])

    def _products_at_targets(self) -> mx.array:
        """The same at each row's target, (T,)."""
        pairs = zip(self.inputs, self.head.matrices, strict=True)
        return _sum([(x * matrix.rows(self.targets)).sum(axis=-1) for x, matrix in pairs])

    def _logits(self, products: mx.array, which: slice | mx.array) -> mx.array:
        """Gain, bias and cap of these tokens put on their products."""
        gain, bias, cap = self.head.gain, self.head.bias, self.head.cap
        if gain is not None:
            products = products * gain[which]
        if bias is not None:
            products = products + bias[which].astype(mx.float32)
        return products if cap is None else softcap(products, cap)

    def _slope(self, logits: mx.array) -> mx.array | float:
        """Of the cap: how much a logit moves with what was capped."""
        cap = self.head.cap
        return 1.0 if cap is None else 1.0 - (logits / cap).square()


def _add(learned: Arrays, name: str, which: slice | mx.array, gradient: mx.array) -> None:
    """Add to some rows of a learned array's gradient; in place once it is evaluated, as nothing else holds it."""
    learned[name] = learned[name].at[which].add(gradient)


def _sum(arrays: list[mx.array]) -> mx.array:
    total, *rest = arrays
    for array in rest:
        total = total + array
    return total
