"""The layers with weight matrices: products of a decode step take the form that is fastest on this machine.

Shapes: B batch, L length, I inputs, O outputs.
"""

from typing import cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from mlx_suite.runtime.few_rows import LEAST_WEIGHTS, few_rows, multiply


def prepare_products(model: object) -> None:
    """Measure the forms before a decode step is compiled, unless an earlier run on this machine did."""
    if isinstance(model, nn.Module):
        arrays = cast(list[tuple[str, mx.array]], tree_flatten(model.parameters()))
        if any(array.size >= LEAST_WEIGHTS for _, array in arrays):
            few_rows()


def product(x: mx.array, weight: mx.array) -> mx.array:
    """x (B, L, I) · weight (O, I)ᵀ → (B, L, O).

    One new token per row (L = 1) is multiplied in the form that was measured to be fastest, see `runtime.few_rows`;
    rounding then differs in the last bit. Longer inputs never are, so training does not depend on what was measured.
    """
    if x.ndim != 3 or x.shape[1] != 1 or weight.size < LEAST_WEIGHTS:
        return x @ weight.T
    form = few_rows().form(weight.shape[0], weight.shape[1], rows=x.shape[0])
    return x @ weight.T if form == "plain" else multiply(x[:, 0], weight, form)[:, None]


class Linear(nn.Linear):
    """`nn.Linear` with `product`."""

    def __call__(self, x: mx.array) -> mx.array:
        y = product(x, self.weight)
        return y + self.bias if "bias" in self else y


class Embedding(nn.Embedding):
    """`nn.Embedding` whose use as LM head is `product`."""

    def as_linear(self, x: mx.array) -> mx.array:
        """Hidden states (B, L, I) → logits (B, L, O)."""
        return product(x, self.weight)
