"""The head of a model in parts, so that the loss can be computed for a slice of the vocabulary at a time.

A head is a sum of matrix products, then a gain and a bias for each token, then a soft-cap:

    logits = cap(gain · Σ inputs @ matrixᵀ + bias)

The first matrix is the embedding or `lm_head`. LoRA adds a second one, whose input is the hidden state projected to
the rank. DoRA's magnitudes are the gain. Trained rows replace those of the first matrix.

Shapes: M rows, d hidden size, r rank, V vocabulary.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.modeling.decoder import Decoder
from mlx_suite.modeling.dora import SMALLEST, DoRALinear
from mlx_suite.modeling.fast_math import softcap
from mlx_suite.modeling.linear import Embedding, Linear
from mlx_suite.modeling.trained_rows import TrainedRows

Arrays = dict[str, mx.array]

DENSE = (nn.Linear, Linear, nn.Embedding, Embedding)
PACKED = (nn.QuantizedLinear, nn.QuantizedEmbedding)
"""Layers whose weight is the head's; a class derived from one may compute something else."""
SAME_SHAPE = (
    "gemma",
    "gemma2",
    "gemma3_text",
    "helium",
    "llama",
    "ministral3",
    "olmo2",
    "phi3",
    "qwen2",
    "qwen3",
    "smollm3",
    "starcoder2",
)
"""mlx-lm models whose logits are exactly the head of `model.model(tokens, cache)`, apart from Gemma 2's soft-cap. Other
models scale the logits (Cohere, Granite) or have another structure."""


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """A matrix with one row per token of the vocabulary, dense or quantized."""

    weight: mx.array
    """(V, k), or packed (V, words) if quantized."""
    packing: Mapping[str, mx.array] = field(default_factory=dict)
    """Scales and biases of a quantized matrix, (V, groups); empty for a dense one."""
    how: Mapping[str, Any] = field(default_factory=dict)
    """Quantization settings: group size, bits, mode."""
    trained: bool = False
    replaced: tuple[int, ...] = ()
    """Tokens with rows of their own (`trained_rows`), which are trained."""
    own: mx.array | None = None
    """Rows (n, k) of the tokens in `replaced`."""

    def after(self, array: mx.array) -> "Matrix":
        """The same matrix, not expanded to fp32 before `array` is computed.

        Otherwise MLX would expand all slices first, since they are independent, and `mx.compile` would keep them in
        memory, because each is expanded twice.
        """
        if self.weight.dtype == mx.float32:
            return self
        names = list(self.packing)
        weight, *packing = mx.depends([self.weight, *self.packing.values()], [array])
        return replace(self, weight=weight, packing=dict(zip(names, packing, strict=True)))

    def rows(self, which: slice | mx.array) -> mx.array:
        """The given rows in fp32, (…, k)."""
        rows = self._stored_rows(which)
        if self.own is None:
            return rows
        own = self.own.astype(mx.float32)
        if isinstance(which, slice):
            at, places = self.within(which)
            if at:
                rows[mx.array(places)] = own[mx.array(at)]
            return rows
        is_own = self.is_own(which)
        return mx.where(is_own.any(axis=-1, keepdims=True), is_own.astype(mx.float32) @ own, rows)

    def within(self, columns: slice) -> tuple[list[int], list[int]]:
        """Which of the `replaced` tokens are in a slice of the vocabulary, and their places in it."""
        found = [(at, token) for at, token in enumerate(self.replaced) if columns.start <= token < columns.stop]
        return [at for at, _ in found], [token - columns.start for _, token in found]

    def is_own(self, tokens: mx.array) -> mx.array:
        """(…, n) whether each token is the n-th of those in `replaced`."""
        return tokens[..., None] == mx.array(self.replaced, tokens.dtype)

    def _stored_rows(self, which: slice | mx.array) -> mx.array:
        if not self.packing:
            return self.weight[which].astype(mx.float32)
        scales, biases = self.packing["scales"][which], self.packing.get("biases")
        biases = None if biases is None else biases[which]
        if self.how["mode"] == "affine":
            scales, biases = scales.astype(mx.float32), None if biases is None else biases.astype(mx.float32)
        return mx.dequantize(self.weight[which], scales, biases, **self.how, dtype=mx.float32)


@dataclass(frozen=True, kw_only=True)
class Head:
    """The parts of a head; trained parts have gradients."""

    matrices: tuple[Matrix, ...]
    narrow: Callable[[mx.array], mx.array] | None = None
    """Hidden states (M, d) → (M, r), the input of the adapter's matrix."""
    gain: mx.array | None = None
    """(V,)"""
    bias: mx.array | None = None
    """(V,)"""
    bias_trained: bool = False
    cap: float | None = None
    """Soft-cap of the logits (Gemma 2 report, section 2)."""

    @property
    def vocabulary(self) -> int:
        return int(self.matrices[0].weight.shape[0])

    def inputs(self, hidden: mx.array) -> list[mx.array]:
        """The input of each matrix."""
        return [hidden] if self.narrow is None else [hidden, self.narrow(hidden)]

    @property
    def learned(self) -> Arrays:
        """Arrays that need a gradient: matrices by their number, `gain`, `bias`, and `own` rows of the first matrix."""
        arrays = {str(i): matrix.weight for i, matrix in enumerate(self.matrices) if matrix.trained}
        if self.matrices[0].own is not None:
            arrays["own"] = self.matrices[0].own
        if self.gain is not None:
            arrays["gain"] = self.gain
        if self.bias is not None and self.bias_trained:
            arrays["bias"] = self.bias
        return arrays

    def after(self, array: mx.array) -> "Head":
        """The same head, whose matrices are not expanded to fp32 before `array` is computed."""
        return replace(self, matrices=tuple(matrix.after(array) for matrix in self.matrices))

    def with_learned(self, arrays: Arrays) -> "Head":
        """The same head with other arrays instead of those in `learned`."""
        matrices = tuple(
            replace(matrix, weight=arrays.get(str(i), matrix.weight)) for i, matrix in enumerate(self.matrices)
        )
        if "own" in arrays:
            matrices = (replace(matrices[0], own=arrays["own"]), *matrices[1:])
        gain, bias = arrays.get("gain", self.gain), arrays.get("bias", self.bias)
        return replace(self, matrices=matrices, gain=gain, bias=bias)


def head_of(model: nn.Module) -> Head | None:
    """The head of a model whose logits are head(model.model(tokens, cache)); None if the model's head is unknown.

    Call it in every trace: the head refers to the model's current arrays.
    """
    if not _is_known(model):
        return None
    layer = model.lm_head if "lm_head" in model else model.model.embed_tokens
    parts = _parts(layer)
    return None if parts is None else replace(parts, cap=_cap(model))


def embedding_matrix(model: nn.Module) -> Matrix | None:
    """The rows that the model reads its tokens from, without a low-rank adapter; None if its embedding is unknown."""
    layer = getattr(getattr(model, "model", None), "embed_tokens", None)
    parts = None if layer is None else _parts(layer)
    return None if parts is None else parts.matrices[0]


def head_function(model: nn.Module) -> Callable[[mx.array], mx.array] | None:
    """The function from hidden states `model.model(tokens, cache)` (…, d) to logits (…, V).

    None if the model's head is unknown; only the logits of all positions can then be computed.
    """
    if callable(getattr(model, "head", None)):
        head: Callable[[mx.array], mx.array] = model.head
        return head
    known = head_of(model) if isinstance(model, nn.Module) else None
    if known is None:
        return None
    layer, cap = model.lm_head if "lm_head" in model else model.model.embed_tokens.as_linear, known.cap
    return layer if cap is None else lambda hidden: softcap(layer(hidden), cap)


def vocabulary_size(model: Any) -> int:
    """Vocabulary size V; `model` is ours or mlx-lm's."""
    config = getattr(model, "config", None) or model.args
    return int(config.vocab_size)


def _is_known(model: nn.Module) -> bool:
    if isinstance(model, Decoder):
        return True
    package, _, name = type(model).__module__.rpartition(".")
    return package == "mlx_lm.models" and name in SAME_SHAPE and type(model).__name__ == "Model"


def _cap(model: nn.Module) -> float | None:
    # An attribute of the model in mlx-lm's Gemma 2, of the config in ours.
    holder = getattr(model, "config", model)
    cap: float | None = getattr(holder, "final_logit_softcapping", None)
    return cap


def _parts(layer: nn.Module) -> Head | None:
    """The head that consists of one layer; None for an unknown kind of layer."""
    if _kind(layer) in (*DENSE, *PACKED):
        bias = layer.get("bias")
        trained = layer.trainable_parameters()
        return Head(matrices=(_matrix(layer),), bias=bias, bias_trained="bias" in trained)
    if isinstance(layer, TrainedRows):
        plain = _parts(layer.table)
        assert plain is not None, "trained rows of a layer of an unknown kind"
        [matrix] = plain.matrices
        return replace(plain, matrices=(replace(matrix, replaced=layer.token_ids, own=layer.token_rows),))
    if isinstance(layer, DoRALinear):
        return _dora(layer)
    return _lora(layer)


def _kind(layer: nn.Module) -> type:
    """The class of a layer before `neftune` added noise to it; the noise does not apply to a head."""
    kind: type = getattr(type(layer), "noiseless", type(layer))
    return kind


def _matrix(layer: nn.Module) -> Matrix:
    if _kind(layer) in DENSE:
        return Matrix(weight=layer.weight, trained="weight" in layer.trainable_parameters())
    packing = {name: layer[name] for name in ("scales", "biases") if layer.get(name) is not None}
    how = {"group_size": layer.group_size, "bits": layer.bits, "mode": layer.mode}
    return Matrix(weight=layer.weight, packing=packing, how=how)


def _lora(layer: nn.Module) -> Head | None:
    # Compared by name, because mlx-lm takes two seconds to import.
    kind = (_kind(layer).__module__, _kind(layer).__name__)
    if kind == ("mlx_lm.tuner.lora", "LoRALinear"):
        base, first, second = layer.linear, layer.lora_a, layer.lora_b.T  # (d, r), (V, r)
    elif kind == ("mlx_lm.tuner.lora", "LoRAEmbedding"):
        base, first, second = layer.embedding, layer.lora_b.T, layer.lora_a
    else:
        return None
    plain = _parts(base)
    assert plain is not None, "an adapter on a layer of an unknown kind"
    return _adapted(plain, layer, first, second)


def _dora(layer: DoRALinear) -> Head:
    plain = _parts(layer.linear)
    assert plain is not None, "an adapter on a layer of an unknown kind"
    gain = layer.m * mx.rsqrt(mx.maximum(layer.squared_norms(), SMALLEST))
    return replace(_adapted(plain, layer, layer.lora_a, layer.lora_b.T), gain=gain)


def _adapted(plain: Head, layer: nn.Module, first: mx.array, second: mx.array) -> Head:
    def narrow(hidden: mx.array) -> mx.array:
        return layer.scale * (layer.dropout(hidden.astype(mx.float32)) @ first.astype(mx.float32))

    return replace(plain, matrices=(*plain.matrices, Matrix(weight=second, trained=True)), narrow=narrow)
