"""Trained rows of a frozen embedding or head: a few tokens get rows of their own, all others keep theirs.

For tokens that the base model never saw, such as the end of a turn. PEFT calls it `trainable_token_indices`; as there,
the trained rows replace those of the table, dense or quantized. A tied head uses the same rows. It is in modeling
because `head.py` needs it.

Shapes: n trained rows, d hidden size, V vocabulary.
"""

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.modeling.dora import dtype_of

TABLES = (nn.Embedding, nn.QuantizedEmbedding, nn.Linear, nn.QuantizedLinear)
"""Kinds of layers with one row per token."""


class TrainedRows(nn.Module):
    """A frozen embedding or `lm_head` (`table`) with trained rows (n, d) for the tokens `token_ids`."""

    def __init__(self, table: nn.Module, token_ids: Sequence[int], rows: mx.array | None = None) -> None:
        super().__init__()
        assert len(set(token_ids)) == len(token_ids) > 0, "each token has one row"
        self.table = table
        self.token_rows = table_rows(table, mx.array(list(token_ids))) if rows is None else rows
        self._ids = tuple(token_ids)

    @property
    def token_ids(self) -> tuple[int, ...]:
        return self._ids

    def __call__(self, x: mx.array) -> mx.array:
        """Embed token ids (…), or as a head: hidden states (…, d) → logits (…, V)."""
        if not isinstance(self.table, nn.Embedding | nn.QuantizedEmbedding):
            return self._with_own_logits(x, self.table(x), self.table.get("bias"))
        is_own = x[..., None] == mx.array(self._ids, x.dtype)  # (…, n)
        embedded: mx.array = self.table(x)
        own = is_own.astype(self.token_rows.dtype) @ self.token_rows  # exact: one factor is 1, the others are 0
        return mx.where(is_own.any(axis=-1, keepdims=True), own.astype(embedded.dtype), embedded)

    def as_linear(self, hidden: mx.array) -> mx.array:
        """Use a tied embedding as the head: hidden states (…, d) → logits (…, V)."""
        return self._with_own_logits(hidden, self.table.as_linear(hidden), None)

    def _with_own_logits(self, hidden: mx.array, logits: mx.array, bias: mx.array | None) -> mx.array:
        at = mx.array(self._ids)
        own = hidden @ self.token_rows.T.astype(hidden.dtype)
        if bias is not None:
            own = own + bias[at]
        logits[..., at] = own.astype(logits.dtype)
        return logits


def table_rows(table: nn.Module, ids: mx.array) -> mx.array:
    """Rows (n, d) of an embedding or head, dequantized if packed, in the layer's dtype."""
    dtype = dtype_of(table)
    if "scales" not in table:
        return table.weight[ids]
    biases = table.get("biases")
    return mx.dequantize(
        table.weight[ids],
        table.scales[ids],
        None if biases is None else biases[ids],
        group_size=table.group_size,
        bits=table.bits,
        mode=table.mode,
        dtype=dtype,
    )


def layers_with_rows(model: nn.Module) -> dict[str, TrainedRows]:
    """The layers with trained rows, by path."""
    return {path: module for path, module in model.named_modules() if isinstance(module, TrainedRows)}
