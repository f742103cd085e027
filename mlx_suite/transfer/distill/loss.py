"""Distillation as the loss of a training step: the teacher scores a batch, then the student learns from it."""

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import numpy.typing as npt

from mlx_suite.data.batch.batches import Batch
from mlx_suite.training.distillation_head import Objective, summed_distillation
from mlx_suite.training.train_step import batch_arrays
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
