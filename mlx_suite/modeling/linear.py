"""The layers with weight matrices: products of a decode step take the form that is fastest on this machine.

Shapes: B batch, L length, I inputs, O outputs.
"""

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.modeling.blocked import blocks_of
from mlx_suite.runtime.few_rows import measured, multiply, multiply_blocks


def product(x: mx.array, weight: mx.array) -> mx.array:
    """x (B, L, I) · weight (O, I)ᵀ → (B, L, O).

    One new token per row (L = 1) is multiplied in the form that was measured to be fastest, see `runtime.few_rows`;
    rounding then differs in the last bit. Longer inputs never are, so training does not depend on what was measured.
    """
    if x.ndim != 3 or x.shape[1] != 1:
        return x @ weight.T
    rows, forms = x.shape[0], measured(weight.shape[0], weight.shape[1])
    if rows <= forms.blocked and (blocks := blocks_of(weight)) is not None:
        return multiply_blocks(x[:, 0], blocks)[:, None]
    form = forms.form(rows)
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
