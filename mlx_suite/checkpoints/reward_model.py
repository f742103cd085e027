"""Reward models: a Llama, Mistral or Gemma 2 whose head gives one number for a whole text.

transformers calls them `LlamaForSequenceClassification` and so on: the layers as they are, and `score.weight` in place
of the head. The number stands at the last token, which has seen all others. FsfairX-LLaMA3-RM, with which the Magpie
sets were scored, is one; a conversation goes in as its own chat template writes it.

Shapes: B texts, L tokens of the longest, d hidden size.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.checkpoints.config_file import NAME, read_config
from mlx_suite.checkpoints.safetensors_header import read_headers
from mlx_suite.checkpoints.weights import load_weights
from mlx_suite.modeling import gemma2, llama
from mlx_suite.modeling.config import OUR_TYPES, ModelConfig
from mlx_suite.modeling.finite import check_finite
from mlx_suite.runtime.errors import UserError

T = TypeVar("T")

SUFFIX = "ForSequenceClassification"
BODIES = {"llama": llama.Body, "mistral": llama.Body, "gemma2": gemma2.Body}


class RewardModel(nn.Module):
    """tokens (B, L) and their lengths (B,) → rewards (B,) in fp32. Padding stands behind the text."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self._config = config
        self.model = BODIES[config.model_type](config)
        self.score = nn.Linear(config.hidden_size, 1, bias=False)

    def __call__(self, tokens: mx.array, lengths: mx.array) -> mx.array:
        hidden = self.model(tokens)  # (B, L, d)
        last = mx.take_along_axis(hidden, (lengths - 1)[:, None, None], axis=1)  # (B, 1, d)
        # In bf16 two rewards around 3 would differ by a 64th or not at all.
        return self.score(last.astype(mx.float32))[:, 0, 0]

    @property
    def config(self) -> ModelConfig:
        return self._config

    def sanitize(self, weights: dict[str, T]) -> dict[str, T]:
        """Without a language model's head and precomputed RoPE frequencies, which some exports carry on."""
        return {
            name: value
            for name, value in weights.items()
            if not name.startswith("lm_head.") and not name.endswith("rotary_emb.inv_freq")
        }


def load_reward_model(
    folder: Path | str, *, dtype: mx.Dtype | str | None = None, dequantize: bool | None = None
) -> RewardModel:
    """Load a checkpoint whose architecture is one of ours `ForSequenceClassification`, with a single score.

    Precision and quantized layers as in `load_model`. Raises UserError for any other checkpoint, and for weights that
    are missing, torn or do not fit.
    """
    folder = Path(folder)
    config = read_config(folder)
    _check_architecture(folder, config)
    model = RewardModel(ModelConfig.from_dict(config, where=str(folder / NAME)))
    load_weights(folder, model, dtype=dtype, dequantize=dequantize)
    return model


def rewards(model: RewardModel, texts: Sequence[Sequence[int]], batch: int = 8192) -> list[float]:
    """The reward of each text of token ids, in order; texts of like length run together.

    Args:
        batch: Positions that are fed at a time; a longer text runs alone.

    Raises UserError where a reward is no number.
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


def _check_architecture(folder: Path, config: dict[str, Any]) -> None:
    named = config.get("architectures")
    architectures = [str(name) for name in named] if isinstance(named, list) else []
    problem = None
    if not any(name.endswith(SUFFIX) for name in architectures):
        problem = f"its architecture is {', '.join(architectures) or 'not named'}, no …{SUFFIX}"
    elif config["model_type"] not in OUR_TYPES:
        problem = f"its model_type is {config['model_type']!r}, not one of {', '.join(OUR_TYPES)}"
    else:
        score = read_headers(folder).get("score.weight")
        if score is not None and score.shape[0] != 1:
            problem = f"it gives {score.shape[0]} numbers for a text; a reward is one"
    if problem:
        raise UserError(
            f"This checkpoint is no reward model that is known here: {problem}",
            where=str(folder / NAME),
            fix="use a Llama, Mistral or Gemma 2 with one score for a head, as sfairXC/FsfairX-LLaMA3-RM-v0.1",
        )
