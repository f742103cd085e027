"""Cross-entropy from hidden states, without materializing the logits of all tokens at the same time.

The idea is from Cut Cross-Entropy (arXiv 2411.09009): logits are computed for a chunk of rows, used and discarded.
Here the loss and its gradients are computed in the same forward pass, and the backward pass only scales the gradients.
Recomputing the logits in the backward pass would need less code but 33-100% more time (measured on the CPU: a matmul
and the exponentials; the smaller the hidden size, the more).

Matmuls whose inner dimension is the vocabulary are chunked too: Metal's split-K is poor for such long ones (mlx issue
1363).

Shapes: M rows, T rows of a chunk, d hidden size, k inner dimension of a matrix (d or an adapter's rank), V vocabulary.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from mlx_suite.modeling.fast_math import exp_below_zero, softcap
from mlx_suite.modeling.head import Arrays, Head, head_of

__all__ = ["head_loss", "head_loss_alone", "head_of"]

LOGITS = 2**23
"""Logits per chunk, 32 MiB in fp32; larger chunks are no faster on the CPU (measured up to 2**24)."""
MIN_ROWS = 128
"""Minimum rows per chunk, used for the vocabularies of Llama 3 and Gemma: expanding a bf16 matrix costs as much memory
traffic as multiplying dozens of rows."""
VOCAB_CHUNK = 8192
"""Rows of a matrix expanded to fp32 at a time, and the longest inner dimension of a matmul."""


def head_loss(hidden: mx.array, targets: mx.array, weights: mx.array, head: Head) -> mx.array:
    """Σ weight · −log p(target) in nats, fp32; gradients are computed in the forward pass.

    For training. Without a backward pass, use `head_loss_alone`.

    Args:
        hidden: (M, d) output of the final norm.
        targets: (M,) token ids.
        weights: (M,) weight of each target, not differentiated.
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
    """`head_loss` for evaluation: no gradients are computed."""
    return _Pass(head, head.inputs(hidden), targets, weights).loss()


@dataclass
class _Pass:
    """The loss of all rows, chunk by chunk."""

    head: Head
    inputs: list[mx.array]
    """Input (M, k) of each matrix."""
    targets: mx.array
    weights: mx.array

    def loss(self) -> mx.array:
        loss = mx.array(0.0)
        for rows in self._chunks():
            # Forces the chunks to run in sequence; otherwise all could be in memory together.
            inputs = mx.depends(self._inputs(rows), [loss])
            loss = loss + _Chunk(self.head, inputs, self.targets[rows], self.weights[rows]).loss
        return loss

    def loss_and_gradients(self) -> tuple[mx.array, list[mx.array], Arrays]:
        """The loss and its gradients with respect to the inputs (M, k) and the trained arrays of the head, in fp32."""
        loss = mx.array(0.0)
        learned = {name: mx.zeros(array.shape) for name, array in self.head.learned.items()}
        parts: list[list[mx.array]] = [[] for _ in self.inputs]
        last: list[mx.array] = []
        for rows in self._chunks():
            inputs = mx.depends(self._inputs(rows), [loss, *last, *learned.values()])
            chunk = _Chunk(self.head, inputs, self.targets[rows], self.weights[rows])
            loss = loss + chunk.loss
            last = chunk.add_gradients(learned)
            for part, gradient in zip(parts, last, strict=True):
                part.append(gradient)
        return loss, [mx.concatenate(part) for part in parts], learned

    def _chunks(self) -> Iterator[slice]:
        count, size = self.targets.shape[0], max(MIN_ROWS, LOGITS // self.head.vocabulary)
        # Equal chunks: 130 rows make two of 65, not 128 and 2.
        size = -(-count // -(-count // size))
        for start in range(0, count, size):
            yield slice(start, min(start + size, count))

    def _inputs(self, rows: slice) -> list[mx.array]:
        return [array[rows].astype(mx.float32) for array in self.inputs]


class _Chunk:
    """Logits of T rows, as a list of (T, columns) over slices of the vocabulary, with their loss and gradients.

    Logits are fp32 in a bf16 model too: a bf16 logit of 20 is off by up to 0.06, and the gradient needs the expanded
    matrix anyway.

    With r = weight / Σ e^logit, the gradient with respect to a logit is r · e^logit, minus the weight at the target.
    The factor r is applied to the (T, k) side of each matmul, and the target is subtracted through its single matrix
    row, so that neither takes a pass over (T, V).
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
        self.target_products = self._products_at_targets()  # (T,)
        self.target_logits = self._logits(self.target_products, targets)  # (T,)
        self.max = mx.stack([each.max(axis=-1) for each in self.logits]).max(axis=0)  # (T,)
        self.exponentials = [exp_below_zero(each - self.max[:, None]) for each in self.logits]
        self.sum = mx.stack([each.sum(axis=-1) for each in self.exponentials]).sum(axis=0)  # (T,)

    @property
    def loss(self) -> mx.array:
        """Σ weight · −log p(target)."""
        return (self.weights * (self.max - self.target_logits + mx.log(self.sum))).sum()

    def add_gradients(self, learned: Arrays) -> list[mx.array]:
        """Add this chunk's gradients to `learned`, slice by slice; returns the gradients with respect to the inputs."""
        head = self.head
        factor = self.weights / self.sum  # r
        input_gradients = [mx.zeros(each.shape) for each in self.inputs]
        for columns, exponentials, logits, products in zip(
            self.columns, self.exponentials, self.logits, self.products, strict=True
        ):
            last = self.sum if columns is self.columns[0] else input_gradients[0]
            slope = exponentials * self._slope(logits)  # (T, columns)
            if "bias" in learned:
                _add(learned, "bias", columns, factor @ slope)
            if head.gain is not None:
                _add(learned, "gain", columns, factor @ (slope * products))
                slope = slope * head.gain[columns]
            for i, matrix in enumerate(head.after(last).matrices):
                input_gradients[i] = input_gradients[i] + slope @ matrix.rows(columns)
                if str(i) in learned:
                    _add(learned, str(i), columns, slope.T @ (factor[:, None] * self.inputs[i]))
            at, places = head.matrices[0].within(columns)
            if at:
                own = slope[:, mx.array(places)].T @ (factor[:, None] * self.inputs[0])
                _add(learned, "own", mx.array(at), own)
        input_gradients = [factor[:, None] * each for each in input_gradients]
        return self._subtract_targets(input_gradients, learned)

    def _subtract_targets(self, input_gradients: list[mx.array], learned: Arrays) -> list[mx.array]:
        slope = self.weights * self._slope(self.target_logits)  # (T,)
        if "bias" in learned:
            _add(learned, "bias", self.targets, -slope)
        if self.head.gain is not None:
            _add(learned, "gain", self.targets, -slope * self.target_products)
            slope = slope * self.head.gain[self.targets]
        for i, matrix in enumerate(self.head.matrices):
            input_gradients[i] = input_gradients[i] - slope[:, None] * matrix.rows(self.targets)
            if str(i) in learned:
                _add(learned, str(i), self.targets, -slope[:, None] * self.inputs[i])
        if "own" in learned:
            is_own = self.head.matrices[0].is_own(self.targets).astype(mx.float32)  # (T, n)
            learned["own"] = learned["own"] - is_own.T @ (slope[:, None] * self.inputs[0])
        return input_gradients

    def _products(self, columns: slice, after: mx.array) -> mx.array:
        """Σ inputs @ matrixᵀ, (T, columns)."""
        pairs = zip(self.inputs, self.head.after(after).matrices, strict=True)
        return _sum([x @ matrix.rows(columns).T for x, matrix in pairs])

    def _products_at_targets(self) -> mx.array:
        """Σ inputs · matrix row at each row's target only, (T,)."""
        pairs = zip(self.inputs, self.head.matrices, strict=True)
        return _sum([(x * matrix.rows(self.targets)).sum(axis=-1) for x, matrix in pairs])

    def _logits(self, products: mx.array, which: slice | mx.array) -> mx.array:
        """Apply gain, bias and softcap to the products of these tokens."""
        gain, bias, cap = self.head.gain, self.head.bias, self.head.cap
        if gain is not None:
            products = products * gain[which]
        if bias is not None:
            products = products + bias[which].astype(mx.float32)
        return products if cap is None else softcap(products, cap)

    def _slope(self, logits: mx.array) -> mx.array | float:
        """Derivative of the softcap at these logits; 1 without one."""
        cap = self.head.cap
        return 1.0 if cap is None else 1.0 - (logits / cap).square()


def _add(learned: Arrays, name: str, which: slice | mx.array, gradient: mx.array) -> None:
    """Add to rows of a gradient. MLX does it in place on evaluation, as nothing else references the array."""
    learned[name] = learned[name].at[which].add(gradient)


def _sum(arrays: list[mx.array]) -> mx.array:
    total, *rest = arrays
    for array in rest:
        total = total + array
    return total
