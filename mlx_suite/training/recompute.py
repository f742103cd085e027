"""Gradient checkpointing (arXiv 1604.06174): a block stores its input and recomputes its activations when needed.

It is enabled by changing the class of each block object, so that parameters keep their names and other models are
unaffected.
"""

from typing import Any

import mlx.core as mx
import mlx.nn as nn


def recompute(layers: list[nn.Module]) -> None:
    """Recompute the activations of each layer in the backward pass: about a third more time, far less memory."""
    for layer in layers:
        kind = type(layer)
        if not getattr(kind, "recomputes", False):
            layer.__class__ = type(kind.__name__, (kind,), {"__call__": _recomputing(kind), "recomputes": True})
            for _, module in layer.named_modules():
                if type(module) is nn.Dropout:
                    module.__class__ = _KeyedDropout
                    module._key = None


class _KeyedDropout(nn.Dropout):
    """Dropout with a fixed key, so that a block that runs twice drops the same values."""

    _key: mx.array | None

    def __call__(self, x: mx.array) -> mx.array:
        if self._p_1 == 1 or not self.training:
            return x
        kept = mx.random.bernoulli(self._p_1, x.shape, key=self._key)
        return (1 / self._p_1) * kept * x


def _dropouts(layer: nn.Module) -> list[_KeyedDropout]:
    return [module for _, module in layer.named_modules() if isinstance(module, _KeyedDropout)]


def _recomputing(kind: type) -> Any:
    def call(layer: nn.Module, x: mx.array, *rest: Any, **named: Any) -> Any:
        dropouts = _dropouts(layer)

        def run(parameters: dict[str, Any], keys: list[mx.array], x: mx.array) -> Any:
            layer.update(parameters)
            for dropout, key in zip(dropouts, keys, strict=True):
                dropout._key = mx.stop_gradient(key)
            result = kind.__call__(layer, x, *rest, **named)
            for dropout in dropouts:
                dropout._key = None
            return result

        # Drawn outside `run`, which would draw different keys when it is recomputed.
        keys = [mx.random.randint(0, 2**31 - 1, (2,)).astype(mx.uint32) for _ in dropouts]
        return mx.checkpoint(run)(layer.trainable_parameters(), keys, x)

    return call
