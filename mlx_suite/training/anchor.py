"""A moving average of the model as the anchor of its training (WARP, arXiv 2406.16768, section 3.1).

    loss = −log q(target) + β · KL(q‖a)

at each trained token, for the distribution q of the model and a of the model with averaged parameters. In the paper
the first term is a reward, and the divergence is estimated from samples; here it is computed over the vocabulary.

Shapes: M target tokens, d hidden size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map

from mlx_suite.data.batch.batches import Batch
from mlx_suite.training.distillation_head import REVERSE, Objective, Teacher, summed_distillation, teacher_side
from mlx_suite.training.documents import Documents
from mlx_suite.training.train_step import batch_arrays, parameters_set, summed_loss, target_states


@dataclass(frozen=True, kw_only=True)
class AnchoredLoss:
    """Cross-entropy, and in training the divergence from the model with averaged parameters."""

    average: Callable[[], Any]
    """Returns the averaged trainable parameters in fp32, a tree; frozen parameters are the model's own."""
    beta: float
    """Weight β of the divergence, above 0."""

    def arrays(self, batch: Batch) -> list[Any]:
        """The batch, and the averaged parameters."""
        return [*batch_arrays(batch), self.average()]

    def summed(self, model: nn.Module, *arrays: Any) -> mx.array:
        tokens, documents, index, targets, weights, average = arrays
        if not model.training:
            return summed_loss(model, tokens, documents, index, targets, weights)
        anchor, states = _anchor(model, tree_map(mx.stop_gradient, average), tokens, documents, index)
        # The anchor's activations are freed before the model's own exist.
        tokens = mx.depends(tokens, [states])
        whole = 1.0 + self.beta
        return summed_distillation(
            model,
            tokens,
            documents,
            index,
            targets,
            whole * weights,
            None,
            teacher=anchor,
            objective=Objective(kind=REVERSE, data_share=1.0 / whole),
        )


def _anchor(
    model: nn.Module, average: Any, tokens: mx.array, documents: Documents | None, index: mx.array
) -> tuple[Teacher, mx.array]:
    """The model with averaged parameters as a teacher, without dropout or noise, and its states (M, d)."""
    model.eval()
    with parameters_set(model, average):
        states, head = target_states(model, tokens, documents, index)
        side = teacher_side(states, head)
    model.train()
    return side, states
