"""Distillation as the loss of a training step, with the teacher in memory or its distributions on disk.

Shapes: M targets of a batch, N draws, d hidden size of the teacher.
"""

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import numpy.typing as npt

from mlx_suite.data.batch.batches import Batch
from mlx_suite.training.distillation_head import Objective, Teacher, TeacherDraws, TeacherTop, summed_distillation
from mlx_suite.training.train_step import batch_arrays
from mlx_suite.transfer.distill.cache import Cache
from mlx_suite.transfer.distill.cached_batches import PlacedBatch
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


@dataclass(frozen=True)
class CachedLoss:
    """The loss with a teacher on disk."""

    cache: Cache
    objective: Objective

    def arrays(self, batch: Batch) -> list[Any]:
        """The batch, and ids (M, N), values (M, N) and entropies (M,) of the teacher's distributions at its targets."""
        assert isinstance(batch, PlacedBatch)
        found = self.cache.records(batch.places)
        return [*batch_arrays(batch), mx.array(found.ids), mx.array(found.values), mx.array(found.entropy)]

    def summed(self, model: nn.Module, *arrays: Any) -> mx.array:
        tokens, documents, index, targets, weights, ids, values, entropy = arrays
        teacher: Teacher = TeacherDraws(ids=ids, weights=values, entropy=entropy)
        if self.cache.is_biased:
            teacher = TeacherTop(ids=ids, probs=values)
        return summed_distillation(
            model, tokens, documents, index, targets, weights, None, teacher=teacher, objective=self.objective
        )
