"""Losses of logits whose matrix of all rows is never materialized: forward and backward pass of a head in chunks.

The idea is from Cut Cross-Entropy (arXiv 2411.09009): logits are computed for a chunk of rows, used and discarded.
Here a loss and its gradients are computed in the same forward pass, and the backward pass only scales the gradients.
Recomputing the logits in the backward pass would need less code but 33-100% more time (measured on the CPU: a matmul
and the exponentials; the smaller the hidden size, the more).

Matmuls whose inner dimension is the vocabulary are chunked too: Metal's split-K is poor for such long ones (mlx issue
1363).

Shapes: M rows, T rows of a chunk, d hidden size, k inner dimension of a matrix (d or an adapter's rank), V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import mlx.core as mx

from mlx_suite.modeling.fast_math import exp_below_zero, softcap
from mlx_suite.modeling.head import Arrays, Head

LOGITS = 2**23
"""Logits per chunk, 32 MiB in fp32; larger chunks are no faster on the CPU (measured up to 2**24)."""
MIN_ROWS = 128
"""Minimum rows per chunk, used for the vocabularies of Llama 3 and Gemma: expanding a bf16 matrix costs as much memory
traffic as multiplying dozens of rows."""
VOCAB_CHUNK = 8192
"""Rows of a matrix expanded to fp32 at a time, and the longest inner dimension of a matmul."""


class Chunk(Protocol):
    """The loss of T rows."""

    @property
    def loss(self) -> mx.array:
        """The sum over the rows."""

    def add_gradients(self, learned: Arrays) -> list[mx.array]:
        """Add the gradients of the head's trained arrays to `learned`; returns those of the head's inputs (T, k)."""


MakeChunk = Callable[[Head, list[mx.array], slice], Chunk]
"""Makes a chunk from a head, the fp32 inputs (T, k) of its matrices, and the chunk's place in the M rows."""


def chunked_loss(hidden: mx.array, head: Head, make: MakeChunk, *, models: int = 1) -> mx.array:
    """Sum of the losses of all chunks of `hidden` (M, d); gradients are computed in the forward pass.

    For training. Without a backward pass, use `chunked_loss_alone`. `models`: heads whose logits a chunk holds.
    """

    def run(inputs: list[mx.array], learned: Arrays) -> tuple[mx.array, list[mx.array], Arrays]:
        return _Pass(head.with_learned(learned), inputs, make, models).loss_and_gradients()

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


def chunked_loss_alone(hidden: mx.array, head: Head, make: MakeChunk, *, models: int = 1) -> mx.array:
    """`chunked_loss` for evaluation: no gradients are computed."""
    return _Pass(head, head.inputs(hidden), make, models).loss()


def row_chunks(count: int, vocabulary: int) -> Iterator[slice]:
    """Slices of `count` rows whose logits may exist at the same time."""
    size = max(MIN_ROWS, LOGITS // vocabulary)
    # Equal chunks: 130 rows make two of 65, not 128 and 2.
    size = -(-count // -(-count // size))
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def vocabulary_chunks(vocabulary: int) -> list[slice]:
    """Slices of the vocabulary whose matrix rows are expanded to fp32 at a time."""
    return [slice(start, min(start + VOCAB_CHUNK, vocabulary)) for start in range(0, vocabulary, VOCAB_CHUNK)]


@dataclass
class _Pass:
    """The loss of all rows, chunk by chunk."""

    head: Head
    inputs: list[mx.array]
    """Input (M, k) of each matrix."""
    make: MakeChunk
    models: int

    def loss(self) -> mx.array:
        loss = mx.array(0.0)
        for rows in self._chunks():
            # Forces the chunks to run in sequence; otherwise all could be in memory together.
            inputs = mx.depends(self._inputs(rows), [loss])
            loss = loss + self.make(self.head, inputs, rows).loss
        return loss

    def loss_and_gradients(self) -> tuple[mx.array, list[mx.array], Arrays]:
        """The loss and its gradients with respect to the inputs (M, k) and the trained arrays of the head, in fp32."""
        loss = mx.array(0.0)
        learned = {name: mx.zeros(array.shape) for name, array in self.head.learned.items()}
        parts: list[list[mx.array]] = [[] for _ in self.inputs]
        last: list[mx.array] = []
        for rows in self._chunks():
            inputs = mx.depends(self._inputs(rows), [loss, *last, *learned.values()])
            chunk = self.make(self.head, inputs, rows)
            loss = loss + chunk.loss
            last = chunk.add_gradients(learned)
            for part, gradient in zip(parts, last, strict=True):
                part.append(gradient)
        return loss, [mx.concatenate(part) for part in parts], learned

    def _chunks(self) -> Iterator[slice]:
        return row_chunks(self.inputs[0].shape[0], self.models * self.head.vocabulary)

    def _inputs(self, rows: slice) -> list[mx.array]:
        return [array[rows].astype(mx.float32) for array in self.inputs]


class LogitRows:
    """Logits of T rows, as a list of (T, columns) over slices of the vocabulary, and the way back from them.

    Logits are fp32 in a bf16 model too: a bf16 logit of 20 is off by up to 0.06, and the gradient needs the expanded
    matrix anyway.

    Args:
        inputs: fp32 input (T, k) of each matrix of the head.
        vocabulary: Use only this many tokens of the head, the first ones.
    """

    def __init__(self, head: Head, inputs: list[mx.array], vocabulary: int | None = None) -> None:
        self.head, self.inputs = head, inputs
        self.columns = vocabulary_chunks(vocabulary or head.vocabulary)
        self.products: list[mx.array] = []
        for columns in self.columns:
            self.products.append(self._products(columns, after=self.products[-1] if self.products else inputs[0]))
        self.logits = [self._logits(each, columns) for each, columns in zip(self.products, self.columns, strict=True)]

    @classmethod
    def of(cls, head: Head, hidden: mx.array, vocabulary: int | None = None) -> "LogitRows":
        """The logits of hidden states (T, d)."""
        return cls(head, [each.astype(mx.float32) for each in head.inputs(hidden)], vocabulary)

    def at(self, tokens: mx.array) -> tuple[mx.array, mx.array]:
        """Products and logits of one token per row, (T,) each."""
        pairs = zip(self.inputs, self.head.matrices, strict=True)
        products = _sum([(x * matrix.rows(tokens)).sum(axis=-1) for x, matrix in pairs])
        return products, self._logits(products, tokens)

    def add_gradients(
        self, learned: Arrays, slopes: Sequence[mx.array], factor: mx.array, after: mx.array
    ) -> list[mx.array]:
        """Add gradients to `learned`, slice by slice; returns those with respect to the inputs.

        Args:
            slopes: (T, columns) for each slice; times `factor`, the derivative of the loss by the logits.
            factor: (T,) applied to the narrow side of each matmul, so that it takes no pass over (T, V).
            after: An array that all slopes need; matrices are not expanded again before it is computed.
        """
        head = self.head
        input_gradients = [mx.zeros(each.shape) for each in self.inputs]
        for columns, by_logit, logits, products in zip(self.columns, slopes, self.logits, self.products, strict=True):
            last = after if columns is self.columns[0] else input_gradients[0]
            slope = by_logit if head.cap is None else by_logit * self._cap_slope(logits)  # (T, columns)
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
        return [factor[:, None] * each for each in input_gradients]

    def subtract_at(
        self,
        input_gradients: list[mx.array],
        learned: Arrays,
        tokens: mx.array,
        weights: mx.array,
        at: tuple[mx.array, mx.array],
    ) -> list[mx.array]:
        """Subtract the gradients of Σ weight · logit at one token (T,) per row, through single rows of the matrices.

        `at` is the result of the method of that name for these tokens.
        """
        products, logits = at
        slope = weights * self._cap_slope(logits)  # (T,)
        if "bias" in learned:
            _add(learned, "bias", tokens, -slope)
        if self.head.gain is not None:
            _add(learned, "gain", tokens, -slope * products)
            slope = slope * self.head.gain[tokens]
        for i, matrix in enumerate(self.head.matrices):
            input_gradients[i] = input_gradients[i] - slope[:, None] * matrix.rows(tokens)
            if str(i) in learned:
                _add(learned, str(i), tokens, -slope[:, None] * self.inputs[i])
        if "own" in learned:
            is_own = self.head.matrices[0].is_own(tokens).astype(mx.float32)  # (T, n)
            learned["own"] = learned["own"] - is_own.T @ (slope[:, None] * self.inputs[0])
        return input_gradients

    def _products(self, columns: slice, after: mx.array) -> mx.array:
        """Σ inputs @ matrixᵀ, (T, columns)."""
        pairs = zip(self.inputs, self.head.after(after).matrices, strict=True)
        return _sum([x @ matrix.rows(columns).T for x, matrix in pairs])

    def _logits(self, products: mx.array, which: slice | mx.array) -> mx.array:
        """Apply gain, bias and softcap to the products of these tokens."""
        gain, bias, cap = self.head.gain, self.head.bias, self.head.cap
        if gain is not None:
            products = products * gain[which]
        if bias is not None:
            products = products + bias[which].astype(mx.float32)
        return products if cap is None else softcap(products, cap)

    def _cap_slope(self, logits: mx.array) -> mx.array | float:
        """Derivative of the softcap at these logits; 1 without one."""
        cap = self.head.cap
        return 1.0 if cap is None else 1.0 - (logits / cap).square()


class Exponentials:
    """e^(logit − max) of T rows, in the slices of their logits, with maximum and sum (T,)."""

    def __init__(self, logits: Sequence[mx.array]) -> None:
        self.max = mx.stack([each.max(axis=-1) for each in logits]).max(axis=0)  # (T,)
        self.slices = [exp_below_zero(each - self.max[:, None]) for each in logits]
        self.sum = mx.stack([each.sum(axis=-1) for each in self.slices]).sum(axis=0)  # (T,)

    @property
    def log_sum(self) -> mx.array:
        """(T,) log Σ e^logit."""
        return self.max + mx.log(self.sum)


def _add(learned: Arrays, name: str, which: slice | mx.array, gradient: mx.array) -> None:
    """Add to rows of a gradient. MLX does it in place on evaluation, as nothing else references the array."""
    learned[name] = learned[name].at[which].add(gradient)


def _sum(arrays: list[mx.array]) -> mx.array:
    total, *rest = arrays
    for array in rest:
        total = total + array
    return total
