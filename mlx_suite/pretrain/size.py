"""One dial for a new model: from the number of blocks follow its shape, and from its shape the way to train it.

The shape is Llama's: width 64 · blocks, heads of 64 dimensions, half as many key-value heads as heads if that is a
whole number, an MLP of 8/3 of the width (rounded up to 64), tied embeddings. With N parameters outside the embedding
and a budget of D tokens, the compute is C = 6·N·D FLOPs, and

    D = 20·N                        tokens (arXiv 2203.15556, section 3)
    learning rate = 0.3118·C^−0.125     at most 0.004 (arXiv 2401.02954, equation 1)
    batch = 0.2920·C^0.3271         tokens per step (the same)

    size  width  heads   parameters   tokens    batch  learning rate
       2    128      2        394 K    7.9 M    6.4 K         0.0040
       4    256      4        3.0 M     59 M     24 K         0.0040
       6    384      6         10 M    195 M     52 K         0.0031
       8    512      8         24 M    472 M     93 K         0.0025
      12    768     12         78 M    1.6 B    203 K         0.0018
      16   1024     16        186 M    3.7 B    359 K         0.0015
      20   1280     20        364 M    7.3 B    557 K         0.0012
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlx_suite.modeling.config import ModelConfig
from mlx_suite.runtime.footprint import parameter_count

WIDTH_PER_BLOCK = 64
HEAD_DIM = 64
INNER_MULTIPLE = 64
TOKENS_PER_PARAMETER = 20
MOST_RATE = 0.004
"""Largest learning rate of the rule, which was fitted to models of 10 M parameters and more."""
ROW_LENGTHS = ((8, 512), (12, 1024))
"""Row length up to a number of blocks; 2048 beyond."""
LONGEST_ROW = 2048


def shape_of_size(blocks: int) -> dict[str, Any]:
    """Keys of a config.json, without the vocabulary."""
    width = WIDTH_PER_BLOCK * blocks
    heads = width // HEAD_DIM
    return {
        "model_type": "llama",
        "hidden_size": width,
        "num_hidden_layers": blocks,
        "num_attention_heads": heads,
        "num_key_value_heads": heads if heads % 2 else heads // 2,
        "head_dim": HEAD_DIM,
        "intermediate_size": -(-8 * width // (3 * INNER_MULTIPLE)) * INNER_MULTIPLE,
        "max_position_embeddings": length_of_size(blocks),
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
    }


def length_of_size(blocks: int) -> int:
    """Row length in tokens."""
    return next((length for most, length in ROW_LENGTHS if blocks <= most), LONGEST_ROW)


def body_parameters(config: ModelConfig) -> int:
    """Parameters outside embedding and head, N."""
    ends = config.vocab_size * config.hidden_size * (1 if config.tie_word_embeddings else 2)
    return parameter_count(vars(config)) - ends


def compute_optimal_tokens(parameters: int) -> int:
    """Token budget for `parameters` outside the embedding, D."""
    return TOKENS_PER_PARAMETER * parameters


@dataclass(frozen=True, kw_only=True)
class TrainingRule:
    """Learning rate and batch for a compute budget."""

    parameters: int
    """N, outside the embedding."""
    tokens: int
    """D."""

    @property
    def flops(self) -> float:
        """C = 6·N·D."""
        return 6.0 * self.parameters * self.tokens

    @property
    def learning_rate(self) -> float:
        """Peak learning rate of AdamW, to two digits."""
        return float(f"{min(MOST_RATE, 0.3118 * self.flops**-0.125):.1e}")

    @property
    def batch_tokens(self) -> float:
        """Tokens per optimizer step."""
        return float(0.2920 * self.flops**0.3271)


def size_table(sizes: tuple[int, ...] = (2, 4, 6, 8, 12, 16, 20)) -> list[Mapping[str, float]]:
    """The rule at several sizes: width, heads, parameters outside the embedding, tokens, batch tokens, rate."""
    rows: list[Mapping[str, float]] = []
    for blocks in sizes:
        config = ModelConfig.from_dict(shape_of_size(blocks) | {"vocab_size": 1})
        parameters = body_parameters(config)
        rule = TrainingRule(parameters=parameters, tokens=compute_optimal_tokens(parameters))
        rows.append(
            {
                "size": blocks,
                "width": config.hidden_size,
                "heads": config.num_attention_heads,
                "parameters": parameters,
                "tokens": rule.tokens,
                "batch": rule.batch_tokens,
                "learning_rate": rule.learning_rate,
            }
        )
    return rows
