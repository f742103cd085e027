"""Linear layers with the same input, computed as one product in a decode step.

Starting a small product costs as much time as computing it, so queries, keys and values are one product, and so are
gate and up. The joined matrix replaces the layers' own, which become parts of it: names, memory and what is saved stay
the same.

Shapes: B batch, L length, I inputs, O outputs.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from weakref import ReferenceType, ref

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.modeling.linear import Embedding, Linear, product

LARGEST = 2**21
"""Weights of the largest matrix that is joined with others: larger ones take much longer than starting a product."""


class Joining(nn.Module):
    """A module with linear layers that have the same input."""

    same_input: tuple[str, ...] = ()
    """Names of these layers, in the order of their outputs."""
    _joined: "Joined | None" = None
    """The layers' joined weights, while `in_use`."""
    _kept: "ReferenceType[Joined] | None" = None
    """The joined weights of other decode steps, as long as one of them uses them."""

    @property
    def joinable(self) -> list[nn.Module]:
        """The layers with the same input."""
        return [self[name] for name in self.same_input]

    def joined_output(self, x: mx.array) -> mx.array | None:
        """x (B, 1, I) → the layers' outputs side by side, (B, 1, O); None if they are not joined, or for longer x."""
        return None if self._joined is None or x.shape[1] != 1 else product(x, self._joined.weight)

    def outputs(self, x: mx.array) -> Sequence[mx.array]:
        """x (B, L, I) → the output of each layer, (B, L, O)."""
        joined, layers = self.joined_output(x), self.joinable
        return [each(x) for each in layers] if joined is None else list(mx.split(joined, _ends(layers), axis=-1))


@dataclass(frozen=True, kw_only=True)
class Joined:
    """The joined weights of one module."""

    module: Joining
    weight: mx.array
    parts: tuple[mx.array, ...]
    """Views of `weight`, which are the layers' own weights until something replaces those."""

    @property
    def is_current(self) -> bool:
        """Whether every layer still has its part as weight: no adapter, training or loading has replaced it."""
        pairs = zip(self.module.joinable, self.parts, strict=True)
        return all(getattr(layer, "weight", None) is part for layer, part in pairs)


def join(model: object) -> list[Joined]:
    """Join the weights of every `Joining` module whose layers are small, plain and without biases."""
    modules = model.modules() if isinstance(model, nn.Module) else []
    return [_joined(module) for module in modules if isinstance(module, Joining) and _can_join(module)]


def multiplied(model: object, joined: Sequence[Joined]) -> list[mx.array]:
    """The matrices (O, I) by which a decode step multiplies: joined ones instead of their parts, and the head's."""
    if not isinstance(model, nn.Module):
        return []
    multiplying: tuple[type[nn.Module], ...] = (Linear,) if "lm_head" in model else (Linear, Embedding)
    parts = {id(part) for each in joined for part in each.parts}
    alone = [each.weight for each in model.modules() if isinstance(each, multiplying)]
    return [each.weight for each in joined] + [each for each in alone if id(each) not in parts]


@contextmanager
def in_use(joined: Sequence[Joined]) -> Iterator[None]:
    """Let the modules compute joined products; a function compiled meanwhile keeps doing so."""
    current = [each for each in joined if each.is_current]
    for each in current:
        each.module._joined = each
    try:
        yield
    finally:
        for each in current:
            each.module._joined = None


def _can_join(module: Joining) -> bool:
    layers = module.joinable
    if not all(type(each) is Linear and "bias" not in each for each in layers):
        return False
    weights = [each.weight for each in layers]
    return len({each.dtype for each in weights}) == 1 and all(each.size <= LARGEST for each in weights)


def _joined(module: Joining) -> Joined:
    kept = module._kept() if module._kept else None
    if kept is not None and kept.is_current:
        return kept
    layers = module.joinable
    weight = mx.concatenate([each.weight for each in layers])
    parts = mx.split(weight, _ends(layers))
    mx.eval(weight, parts)
    for layer, part in zip(layers, parts, strict=True):
        layer.weight = part
    joined = Joined(module=module, weight=weight, parts=tuple(parts))
    module._kept = ref(joined)
    return joined


def _ends(layers: Sequence[nn.Module]) -> list[int]:
    """Where the outputs of all layers but the last end."""
    return list(accumulate(each.weight.shape[0] for each in layers))[:-1]
