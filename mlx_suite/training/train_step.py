"""A model that learns: gradients of batches, and the step that changes the weights.

Shapes: B rows, L positions, M trained targets, d hidden size, V vocabulary.
"""

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_map

from mlx_suite.data.batch.batches import Batch
from mlx_suite.runtime.debug import check_indices
from mlx_suite.training.cut_cross_entropy import head_loss, head_loss_alone, head_of
from mlx_suite.training.documents import document_caches
from mlx_suite.training.loss import token_losses
from mlx_suite.training.neftune import document_lengths
from mlx_suite.training.process_group import ProcessGroup


def summed_loss(
    model: nn.Module,
    tokens: mx.array,
    document: mx.array | None,
    index: mx.array,
    targets: mx.array,
    weights: mx.array,
) -> mx.array:
    """Σ weight · −log p(target) in nats over the trained targets of a batch; arguments as in `Batch`.

    Only the hidden states that predict a trained target go through the head.
    """
    caches = None if document is None else document_caches(document, len(model.layers))
    head = head_of(model)
    embedding = getattr(getattr(model, "model", None), "embed_tokens", None)
    with document_lengths(embedding, document):
        if head is None:
            logits = model(tokens, caches)
            return (token_losses(logits.reshape(-1, logits.shape[-1])[index], targets) * weights).sum()
        hidden = model.model(tokens, caches)  # (B, L, d)
    loss = head_loss if model.training else head_loss_alone
    return loss(hidden.reshape(-1, hidden.shape[-1])[index], targets, weights, head)


class TrainStep:
    """A model, its optimizer, and what is learned in fp32 whatever precision the model runs in.

    A bf16 weight of 1 does not notice a change of 0.001, so the parameters that are trained are kept in fp32 here and
    the model is given them rounded. Of an fp32 model the two are the same arrays.
    """

    def __init__(
        self, model: nn.Module, optimizer: optim.Optimizer, clip: float, group: ProcessGroup | None = None
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.clip = clip
        self.group = group or ProcessGroup()
        self.master: dict[str, Any] = {"parameters": _in_fp32(model.trainable_parameters())}
        optimizer.init(self.master["parameters"])
        self._value_and_grad = nn.value_and_grad(model, _share_of_loss)

    def run(self, batches: Iterable[Batch], total: float, seed: int) -> tuple[mx.array, mx.array]:
        """One optimizer step on `batches` together; (their mean loss, norm of the gradient before clipping).

        Args:
            batches: Forward and backward passes run one after the other, so only one needs memory at a time.
            total: The sum of all weights in the step, over all processes: 8 rows one by one make the step of all 8.
            seed: Of dropout and noise. A function of the step, so a resumed run draws what an undisturbed one draws.
        """
        self.model.train()
        mx.random.seed(seed)
        loss, gradient = mx.array(0.0), None
        for batch in batches:
            self._check(batch)
            part, partial = self._gradient(*_arrays(batch), mx.array(total, dtype=mx.float32))
            loss = loss + part
            gradient = partial if gradient is None else tree_map(mx.add, gradient, partial)
            mx.eval(loss, gradient, mx.random.state)
        assert gradient is not None, "a step without batches"
        loss = self.group.all_sum([loss])[0]
        norm = self._update(self.group.all_sum(gradient))
        mx.eval(loss, norm, self.model.state, self.optimizer.state, self.master)
        return loss, norm

    def mean_loss(self, batches: Iterable[Batch]) -> float:
        """Mean nats per trained token over all batches of all processes, without dropout or noise."""
        self.model.eval()
        total, weight = mx.array(0.0), 0.0
        for batch in batches:
            self._check(batch)
            total = total + self._loss(*_arrays(batch))
            weight += batch.total
            mx.eval(total)
        sums = self.group.all_sum([total, mx.array(weight)])
        # One division in fp32, so that all processes come to the same number.
        mean: Any = (sums[0] / mx.maximum(sums[1], 1e-9)).item()
        return float(mean)

    def restore(self, parameters: dict[str, Any]) -> None:
        """Put fp32 parameters back, as a checkpoint has kept them."""
        self.master["parameters"] = parameters
        self.model.update(_as_in(parameters, self.model.trainable_parameters()))

    def _check(self, batch: Batch) -> None:
        """Assert the bounds of a batch's indices, if checks are enabled."""
        config: Any = getattr(self.model, "config", None) or self.model.args
        check_indices(batch.tokens, config.vocab_size, "token")
        check_indices(batch.targets, config.vocab_size, "target")
        check_indices(batch.index, batch.tokens.size, "position")

    # Compiled on first use, when a checkpoint may have put other containers in the place of the first ones.

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
        # It leaves its own tracers in the model, where the next batch of the step would find them.
        self.model.update(parameters)
        return value, _in_fp32(gradient)

    def _trace_update(self, gradient: Any) -> mx.array:
        gradient, norm = optim.clip_grad_norm(gradient, self.clip or float("inf"))
        parameters = self.optimizer.apply_gradients(gradient, self.master["parameters"])
        self.restore(parameters)
        return norm

    def _trace_loss(self, *arguments: Any) -> mx.array:
        return summed_loss(self.model, *arguments)


def _share_of_loss(model: nn.Module, *arguments: Any) -> mx.array:
    """A batch's part of the step's mean loss."""
    *batch, total = arguments
    return summed_loss(model, *batch) / total


def _arrays(batch: Batch) -> list[Any]:
    document = None if batch.document is None else mx.array(batch.document)
    return [mx.array(batch.tokens), document, mx.array(batch.index), mx.array(batch.targets), mx.array(batch.weights)]


def _in_fp32(tree: Any) -> Any:
    return tree_map(lambda x: x.astype(mx.float32), tree)


def _as_in(tree: Any, other: Any) -> Any:
    """`tree` in the dtypes of `other`."""
    return tree_map(lambda x, like: x.astype(like.dtype), tree, other)
