"""Reward models: a model of one of our families whose head gives one score for a text.

transformers calls them `LlamaForSequenceClassification` and so on: the same layers, with `score.weight` as the head,
applied to the last token. FsfairX-LLaMA3-RM, which scored the Magpie datasets, is one. A conversation is encoded with
the reward model's own chat template.

Shapes: B texts, L tokens of the longest, d hidden size.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.modeling.config import ModelConfig
from mlx_suite.modeling.finite import check_finite
from mlx_suite.modeling.gemma2 import gemma2_body
from mlx_suite.modeling.gemma3 import gemma3_body
from mlx_suite.modeling.llama import llama_body
from mlx_suite.modeling.qwen3 import qwen3_body
from mlx_suite.modeling.text_part import text_weights

T = TypeVar("T")

BODIES = {
    "llama": llama_body,
    "mistral": llama_body,
    "gemma2": gemma2_body,
    "gemma3_text": gemma3_body,
    "qwen3": qwen3_body,
}


class RewardModel(nn.Module):
    """tokens (B, L) and lengths (B,) → rewards (B,) in fp32. Padding comes last."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self._config = config
        self.model = BODIES[config.model_type](config)
        self.score = nn.Linear(config.hidden_size, 1, bias=False)

    def __call__(self, tokens: mx.array, lengths: mx.array) -> mx.array:
        hidden = self.model(tokens)  # (B, L, d)
        last = mx.take_along_axis(hidden, (lengths - 1)[:, None, None], axis=1)  # (B, 1, d)
        # fp32: in bf16, rewards around 3 are multiples of 1/64.
        return self.score(last.astype(mx.float32))[:, 0, 0]

    @property
    def config(self) -> ModelConfig:
        return self._config

    def sanitize(self, weights: dict[str, T]) -> dict[str, T]:
        """Drop a language model's head and precomputed RoPE frequencies, which some exports contain."""
        return {
            name: value
            for name, value in text_weights(weights).items()
            if not name.startswith("lm_head.") and not name.endswith("rotary_emb.inv_freq")
        }


def rewards(model: RewardModel, texts: Sequence[Sequence[int]], batch: int = 8192) -> list[float]:
    """The reward of each text (token ids), in order; texts of similar length share a batch.

    Args:
        batch: Positions per forward pass; a longer text runs alone.

    Raises UserError if a reward is NaN or inf.
    """
    found: dict[int, float] = {}
    waiting = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    while waiting:
        longest = len(texts[waiting[-1]])
        numbers = waiting[-max(1, batch // longest) :]
        del waiting[-len(numbers) :]
        fed = mx.array([[*texts[number], *[0] * (longest - len(texts[number]))] for number in numbers])
        values: Any = model(fed, mx.array([len(texts[number]) for number in numbers])).tolist()
        check_finite(values, "rewards")
        found.update(zip(numbers, values, strict=True))
    return [found[number] for number in range(len(texts))]
