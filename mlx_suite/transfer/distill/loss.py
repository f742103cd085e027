"""Distillation as the loss of a training step: the teacher scores a batch, then the student learns from it."""

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import numpy.typing as npt

from mlx_suite.data.batch.batches import Batch
from mlx_suite.training.documents import Documents
from mlx_suite.training.train_step import batch_arrays, target_states
from mlx_suite.transfer.distill.head import (
    Objective,
    Targets,
    Teacher,
    distillation_loss,
    distillation_loss_of_logits,
)
from mlx_suite.transfer.distill.teacher import LoadedTeacher


@dataclass(frozen=True, kw_only=True)
class SampledBatch(Batch):
    """A batch in which the student wrote some of the responses."""

    from_data: npt.NDArray[np.float32]
    """(M,) 1 where the target is the data's, 0 where the student sampled it."""


@dataclass(frozen=True)
class OnlineLoss:
    """The loss with a teacher in memory."""

    teacher: LoadedTeacher
    objective: Objective

    def arrays(self, batch: Batch) -> list[Any]:
        """The batch, which targets are the data's, and the teacher's hidden states (M, d) at the targets."""
        from_data = mx.array(batch.from_data) if isinstance(batch, SampledBatch) else None
        return [*batch_arrays(batch), from_data, self.teacher.states(batch)]

    def summed(self, model: nn.Module, *arrays: Any) -> mx.array:
        *batch, states = arrays
        return summed_distillation(model, *batch, teacher=self.teacher.side(states), objective=self.objective)


def summed_distillation(
    model: nn.Module,
    tokens: mx.array,
    documents: Documents | None,
    index: mx.array,
    targets: mx.array,
    weights: mx.array,
    from_data: mx.array | None,
    *,
    teacher: Teacher,
    objective: Objective,
) -> mx.array:
    """Σ weight · loss in nats over the target tokens of a batch; arguments as in `Batch` and `Targets`."""
    states, head = target_states(model, tokens, documents, index)
    wanted = Targets(ids=targets, weights=weights, from_data=from_data)
    if head is None:
        return distillation_loss_of_logits(states, wanted, teacher, objective, training=model.training)
    return distillation_loss(states, wanted, head, teacher, objective, training=model.training)
