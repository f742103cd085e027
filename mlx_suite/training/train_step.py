"""One optimizer step: loss and gradients of its batches, gradient accumulation, clipping and the update.

Shapes: B rows, L positions, M target tokens, d hidden size, V vocabulary.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Protocol

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_map

from mlx_suite.data.batch.batches import Batch
from mlx_suite.modeling.head import Head, vocabulary_size
from mlx_suite.runtime.debug import check_indices
from mlx_suite.training.cut_cross_entropy import head_loss, head_loss_alone, head_of
from mlx_suite.training.documents import Documents, document_caches, longest_document
from mlx_suite.training.loss import token_losses
from mlx_suite.training.neftune import document_lengths
from mlx_suite.training.process_group import ProcessGroup


def summed_loss(
    model: nn.Module,
    tokens: mx.array,
    documents: Documents | None,
    index: mx.array,
    targets: mx.array,
    weights: mx.array,
) -> mx.array:
    """Σ weight · −log p(target) in nats over the target tokens of a batch; arguments as in `Batch`."""
    states, head = target_states(model, tokens, documents, index)
    if head is None:
        return (token_losses(states, targets) * weights).sum()
    loss = head_loss if model.training else head_loss_alone
    return loss(states, targets, weights, head)


def target_states(
    model: nn.Module, tokens: mx.array, documents: Documents | None, index: mx.array
) -> tuple[mx.array, Head | None]:
    """The hidden states (M, d) that predict the target tokens of a batch, and the head that they go through.

    For a model whose head is unknown: their logits (M, V) and None.
    """
    document, longest = documents or (None, None)
    caches = None if document is None else document_caches(document, len(model.layers), longest)
    head = head_of(model)
    embedding = getattr(getattr(model, "model", None), "embed_tokens", None)
    with document_lengths(embedding, document):
        states = model(tokens, caches) if head is None else model.model(tokens, caches)
    return states.reshape(-1, states.shape[-1])[index], head


class BatchLoss(Protocol):
    """What training minimizes, as a sum over the target tokens of a batch."""

    def arrays(self, batch: Batch) -> list[Any]:
        """The arrays of a batch that `summed` takes; None for an absent one. Not part of the compiled step."""

    def summed(self, model: nn.Module, *arrays: Any) -> mx.array:
        """Σ weight · loss in nats, compiled and differentiated."""


class CrossEntropy:
    """−log p(target)."""

    def arrays(self, batch: Batch) -> list[Any]:
        """The batch as MLX arrays."""
        return batch_arrays(batch)

    def summed(self, model: nn.Module, *arrays: Any) -> mx.array:
        return summed_loss(model, *arrays)


@contextmanager
def parameters_set(model: nn.Module, parameters: Any) -> Iterator[None]:
    """Give `model` other trainable parameters, cast to the dtypes of its own, which it has again afterwards."""
    own = model.trainable_parameters()
    model.update(_as_in(parameters, own))
    try:
        yield
    finally:
        model.update(own)


def batch_arrays(batch: Batch) -> list[Any]:
    """Tokens, documents, index, targets and weights of a batch, as arguments of `summed_loss`."""
    documents = None if batch.document is None else (mx.array(batch.document), longest_document(batch.document))
    return [mx.array(batch.tokens), documents, mx.array(batch.index), mx.array(batch.targets), mx.array(batch.weights)]


class TrainStep:
    """A model, its optimizer and fp32 master weights.

    A bf16 weight of 1 is unchanged by an update of 0.001, so the trainable parameters are kept in fp32 here, and the
    model holds them rounded to its own dtype. For an fp32 model, the two are the same arrays.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: optim.Optimizer,
        clip: float,
        group: ProcessGroup | None = None,
        loss: BatchLoss | None = None,
    ) -> None:
        self.model = model
        self.loss = loss or CrossEntropy()
        self.optimizer = optimizer
        self.clip = clip
        self.group = group or ProcessGroup()
        self.master: dict[str, Any] = {"parameters": _in_fp32(model.trainable_parameters())}
        optimizer.init(self.master["parameters"])
        self._value_and_grad = nn.value_and_grad(model, self._share_of_loss)

    def keep_average(self, rate: float) -> None:
        """From now on, move an average of the fp32 parameters by `rate` towards them after each step.

        `master["average"]` holds it: a ← (1 − rate) · a + rate · parameters, beginning with the present parameters.
        """
        self._rate = rate
        # Arrays of its own: the compiled update would treat inputs that are one array at first as one for ever.
        self.master["average"] = tree_map(mx.array, self.master["parameters"])
        mx.eval(self.master["average"])

    def run(self, batches: Iterable[Batch], total: float, seed: int) -> tuple[mx.array, mx.array]:
        """Run one optimizer step on `batches`; returns (mean loss, gradient norm before clipping).

        Args:
            batches: Processed one at a time with gradient accumulation, so that only one is in memory.
            total: Sum of all target weights of the step over all processes, so that 8 batches of one row make the same
                step as one batch of 8.
            seed: Seed for dropout and noise. It must be a function of the step, so that a resumed run is bit-exact.
        """
        self.model.train()
        mx.random.seed(seed)
        loss, gradient = mx.array(0.0), None
        for batch in batches:
            self._check(batch)
            part, partial = self._gradient(*self.loss.arrays(batch), mx.array(total, dtype=mx.float32))
            loss = loss + part
            gradient = partial if gradient is None else tree_map(mx.add, gradient, partial)
            mx.eval(loss, gradient, mx.random.state)
        assert gradient is not None, "a step without batches"
        loss = self.group.all_sum([loss])[0]
        norm = self._update(self.group.all_sum(gradient))
        mx.eval(loss, norm, self.model.state, self.optimizer.state, self.master)
        return loss, norm

    def mean_loss(self, batches: Iterable[Batch]) -> float:
        """Mean loss in nats per target token over all batches of all processes, without dropout or noise."""
        self.model.eval()
        total, weight = mx.array(0.0), 0.0
        for batch in batches:
            self._check(batch)
            total = total + self._loss(*self.loss.arrays(batch))
            weight += batch.total
            mx.eval(total)
        sums = self.group.all_sum([total, mx.array(weight)])
        # Divided in fp32, so that all processes get the same value.
        mean: Any = (sums[0] / mx.maximum(sums[1], 1e-9)).item()
        return float(mean)

    def restore(self, parameters: dict[str, Any]) -> None:
        """Set the fp32 parameters and round them into the model."""
        self.master["parameters"] = parameters
        self.model.update(_as_in(parameters, self.model.trainable_parameters()))

    def _check(self, batch: Batch) -> None:
        """Assert that the indices of a batch are in bounds, if debug checks are enabled."""
        size = vocabulary_size(self.model)
        check_indices(batch.tokens, size, "token")
        check_indices(batch.targets, size, "target")
        check_indices(batch.index, batch.tokens.size, "position")

    # Compiled on first use: loading a checkpoint may have replaced the state containers that compilation captures.

    @cached_property
    def _gradient(self) -> Any:
        inputs = [self.model.state, mx.random.state]
        return mx.compile(self._trace_gradient, inputs=inputs, outputs=[mx.random.state])

    @cached_property
    def _update(self) -> Any:
        state = [self.model.state, self.optimizer.state, self.master]
        return mx.compile(self._trace_update, inputs=state, outputs=state)

    @cached_property
    def _loss(self) -> Any:
        return mx.compile(self._trace_loss, inputs=[self.model.state])

    def _trace_gradient(self, *arguments: Any) -> tuple[mx.array, Any]:
        parameters = self.model.trainable_parameters()
        value, gradient = self._value_and_grad(self.model, *arguments)
        # Tracing leaves tracers in the model, which would leak into the next batch.
        self.model.update(parameters)
        return value, _in_fp32(gradient)

    def _trace_update(self, gradient: Any) -> mx.array:
        gradient, norm = optim.clip_grad_norm(gradient, self.clip or float("inf"))
        parameters = self.optimizer.apply_gradients(gradient, self.master["parameters"])
        self.restore(parameters)
        if "average" in self.master:
            rate = self._rate
            self.master["average"] = tree_map(lambda a, p: a + rate * (p - a), self.master["average"], parameters)
        return norm

    def _trace_loss(self, *arguments: Any) -> mx.array:
        return self.loss.summed(self.model, *arguments)

    def _share_of_loss(self, model: nn.Module, *arguments: Any) -> mx.array:
        """A batch's contribution to the mean loss of the step."""
        *arrays, total = arguments
        return self.loss.summed(model, *arrays) / total


def _in_fp32(tree: Any) -> Any:
    return tree_map(lambda x: x.astype(mx.float32), tree)


def _as_in(tree: Any, other: Any) -> Any:
    """`tree` cast to the dtypes of `other`."""
    return tree_map(lambda x, like: x.astype(like.dtype), tree, other)
