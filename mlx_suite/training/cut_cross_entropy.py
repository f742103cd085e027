"""Cross-entropy from hidden states, without materializing the logits of all tokens at the same time.

`chunked_head` computes loss and gradients chunk by chunk.

Shapes: M rows, T rows of a chunk, d hidden size, k inner dimension of a matrix (d or an adapter's rank), V vocabulary.
"""

import mlx.core as mx

from mlx_suite.modeling.head import Arrays, Head, head_of
from mlx_suite.training.chunked_head import Exponentials, LogitRows, MakeChunk, chunked_loss, chunked_loss_alone

__all__ = ["head_loss", "head_loss_alone", "head_of"]


def head_loss(hidden: mx.array, targets: mx.array, weights: mx.array, head: Head) -> mx.array:
    """Σ weight · −log p(target) in nats, fp32; gradients are computed in the forward pass.

    For training. Without a backward pass, use `head_loss_alone`.

    Args:
        hidden: (M, d) output of the final norm.
        targets: (M,) token ids.
        weights: (M,) weight of each target, not differentiated.
    """
    return chunked_loss(hidden, head, _chunks(targets, weights))


def head_loss_alone(hidden: mx.array, targets: mx.array, weights: mx.array, head: Head) -> mx.array:
    """`head_loss` for evaluation: no gradients are computed."""
    return chunked_loss_alone(hidden, head, _chunks(targets, weights))


def _chunks(targets: mx.array, weights: mx.array) -> MakeChunk:
    return lambda head, inputs, rows: _Chunk(LogitRows(head, inputs), targets[rows], weights[rows])


class _Chunk:
    """The cross-entropy of T rows.

    With r = weight / Σ e^logit, the gradient with respect to a logit is r · e^logit, minus the weight at the target.
    The factor r is applied to the (T, k) side of each matmul, and the target is subtracted through its single matrix
    row, so that neither takes a pass over (T, V).
    """

    def __init__(self, rows: LogitRows, targets: mx.array, weights: mx.array) -> None:
        self.rows, self.targets, self.weights = rows, targets, weights
        self.at_targets = rows.at(targets)
        self.exponentials = Exponentials(rows.logits)

    @property
    def loss(self) -> mx.array:
        """Σ weight · −log p(target)."""
        _, logits = self.at_targets
        return (self.weights * (self.exponentials.max - logits + mx.log(self.exponentials.sum))).sum()

    def add_gradients(self, learned: Arrays) -> list[mx.array]:
        """Add this chunk's gradients to `learned`, slice by slice; returns the gradients with respect to the inputs."""
        total = self.exponentials.sum
        gradients = self.rows.add_gradients(learned, self.exponentials.slices, self.weights / total, after=total)
        return self.rows.subtract_at(gradients, learned, self.targets, self.weights, self.at_targets)
