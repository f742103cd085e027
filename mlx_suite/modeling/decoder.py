"""The decoder that all families share: embedding, blocks, final norm, head.

Each family's file defines its block, norm, activation and embedding scale. Parameters have Hugging Face's names, so
checkpoints load without renaming. Shapes: B batch, L length, d hidden size, V vocabulary.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.modeling.attention import MakeNorm
from mlx_suite.modeling.cache import layer_caches
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.modeling.fast_math import softcap
from mlx_suite.modeling.joined import Joining
from mlx_suite.modeling.linear import Embedding, Linear
from mlx_suite.modeling.masks import Mask, attention_mask
from mlx_suite.modeling.rope import Rope
from mlx_suite.modeling.text_part import text_weights

T = TypeVar("T")
MakeBlock = Callable[[ModelConfig, int | None, Rope], nn.Module]


class GatedMLP(Joining):
    """down(activation(gate(x)) · up(x)): SwiGLU with SiLU, GeGLU with GELU (arXiv 2002.05202)."""

    same_input = ("gate_proj", "up_proj")

    def __init__(self, config: ModelConfig, activation: Callable[[mx.array], mx.array]) -> None:
        super().__init__()
        d, ff, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self._activation = activation
        self.gate_proj = Linear(d, ff, bias=bias)
        self.up_proj = Linear(d, ff, bias=bias)
        self.down_proj = Linear(ff, d, bias=bias)

    def __call__(self, x: mx.array) -> mx.array:
        gate, up = self.outputs(x)
        # Recomputed in the backward pass: an activation keeps up to seven arrays, the MLP's largest, for little work.
        gated = self.gated if x.shape[1] == 1 else mx.checkpoint(self.gated)
        return self.down_proj(gated(gate, up))

    def gated(self, gate: mx.array, up: mx.array) -> mx.array:
        """activation(gate) · up."""
        return self._activation(gate) * up


class DecoderBody(nn.Module):
    """Embedding, blocks and final norm: Hugging Face's `model`. tokens (B, L) → hidden states (B, L, d)."""

    def __init__(
        self, config: ModelConfig, make_block: MakeBlock, make_norm: MakeNorm, embedding_scale: float | None = None
    ) -> None:
        super().__init__()
        rope = Rope(config.rope, config.head_dim)
        local = rope if config.local_rope is None else Rope(config.local_rope, config.head_dim)
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        self.layers = [make_block(config, window, rope if window is None else local) for window in config.windows]
        self.norm = make_norm(config.hidden_size, config.rms_norm_eps)
        self._embedding_scale = embedding_scale

    def __call__(self, tokens: mx.array, cache: list[Any] | None = None) -> mx.array:
        x = self.embed_tokens(tokens)  # (B, L, d)
        if self._embedding_scale is not None:
            x = x * scale_in(self._embedding_scale, x.dtype)
        caches = cache or [None] * len(self.layers)
        # Layers with the same window share a mask, since all their caches are at the same position.
        masks: dict[int | None, Mask] = {}
        for layer, layer_cache in zip(self.layers, caches, strict=True):
            window = layer.self_attn.window
            if window not in masks:
                masks[window] = attention_mask(tokens.shape[1], layer_cache, window)
            x = layer(x, masks[window], layer_cache)
        return self.norm(x)


class Decoder(nn.Module):
    """tokens (B, L) → logits (B, L, V). `cache`, if given, has one entry per layer and is updated in place."""

    def __init__(self, config: ModelConfig, body: DecoderBody) -> None:
        super().__init__()
        self._config = config
        self.model = body
        if not config.tie_word_embeddings:
            self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)

    def __call__(self, tokens: mx.array, cache: list[Any] | None = None) -> mx.array:
        return self.head(self.model(tokens, cache))

    def head(self, hidden: mx.array) -> mx.array:
        """Hidden states (…, d) → logits (…, V), soft-capped if the config says so (Gemma 2)."""
        tied, cap = self._config.tie_word_embeddings, self._config.final_logit_softcapping
        logits = self.model.embed_tokens.as_linear(hidden) if tied else self.lm_head(hidden)
        return logits if cap is None else softcap(logits, cap)

    @property
    def config(self) -> ModelConfig:
        return self._config

    @property
    def layers(self) -> list[nn.Module]:
        return self.model.layers

    def make_cache(self) -> list[Any]:
        """mlx-lm caches, one per layer; a layer with a sliding window of W keys has a rotating cache of that size."""
        return layer_caches(self._config.windows)

    def sanitize(self, weights: dict[str, T]) -> dict[str, T]:
        """Keep the text part's tensors; drop those of old exports: RoPE frequencies, and the copy of a tied head.

        A tied matrix that is stored as the head only is the embedding too.
        """
        found = text_weights(weights)
        unused = ("lm_head.",) if self._config.tie_word_embeddings else ()
        if unused and "model.embed_tokens.weight" not in found:
            found = {name.replace("lm_head.", "model.embed_tokens.", 1): value for name, value in found.items()}
        return {
            name: value
            for name, value in found.items()
            if not name.startswith(unused) and not name.endswith("rotary_emb.inv_freq")
        }


def scale_in(scale: float, dtype: mx.Dtype) -> mx.array:
    """A scale rounded to the activations' dtype: Gemma 2 was trained with √3584 = 59.87 rounded to 59.75 in bf16."""
    return mx.array(scale, dtype=mx.float32).astype(dtype)
