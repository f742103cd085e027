"""The size dial: shapes, parameter counts and the rule for batch and learning rate."""

import re
from typing import Any

import pytest

from mlx_suite.checkpoints.load import build_model
from mlx_suite.checkpoints.weights import parameter_count as counted
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.pretrain import size
from mlx_suite.pretrain.size import TrainingRule, body_parameters, shape_of_size, size_table
from mlx_suite.runtime.footprint import parameter_count
from mlx_suite_apps.cli.pretrain_report import size_lines

TINY_STORIES = {"model_type": "llama", "rms_norm_eps": 1e-5, "tie_word_embeddings": True}


def llama(**shape: Any) -> ModelConfig:
    return ModelConfig.from_dict(TINY_STORIES | shape)


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (
            llama(
                vocab_size=512,
                hidden_size=64,
                intermediate_size=172,
                num_hidden_layers=5,
                num_attention_heads=8,
                num_key_value_heads=4,
            ),
            260_032,
        ),
        (
            llama(
                vocab_size=32_000,
                hidden_size=288,
                intermediate_size=768,
                num_hidden_layers=6,
                num_attention_heads=6,
                num_key_value_heads=6,
            ),
            15_191_712,
        ),
    ],
    ids=["260K", "15M"],
)
def test_the_tiny_stories_models_have_their_published_parameters(config: ModelConfig, parameters: int) -> None:
    assert parameter_count(vars(config)) == parameters
    assert counted(build_model(config).parameters()) == parameters


def test_size_4_is_256_wide_with_4_heads_of_64_and_2_key_value_heads() -> None:
    assert shape_of_size(4) == {
        "model_type": "llama",
        "hidden_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "intermediate_size": 704,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
    }


@pytest.mark.parametrize("blocks", range(1, 25))
def test_every_size_is_a_valid_config_and_its_body_is_all_but_the_embedding(blocks: int) -> None:
    config = ModelConfig.from_dict(shape_of_size(blocks) | {"vocab_size": 300})
    assert body_parameters(config) == parameter_count(vars(config)) - 300 * config.hidden_size
    assert config.num_attention_heads % config.num_key_value_heads == 0


def test_an_untied_head_is_not_in_the_body() -> None:
    tied, untied = (
        ModelConfig.from_dict(shape_of_size(2) | {"vocab_size": 300, "tie_word_embeddings": tied})
        for tied in (True, False)
    )
    assert body_parameters(tied) == body_parameters(untied) == 393_856


def test_the_rule_gives_the_published_optima() -> None:
    # Equation 1 of arXiv 2401.02954 at 1e17 and 1e20 FLOPs.
    small, large = (TrainingRule(parameters=10**8, tokens=round(flops / 6e8)) for flops in (1e17, 1e20))
    assert (small.learning_rate, large.learning_rate) == (2.3e-3, 9.9e-4)
    assert (round(small.batch_tokens, -3), round(large.batch_tokens, -3)) == (106_000, 1_017_000)


def test_small_budgets_have_the_largest_learning_rate() -> None:
    assert TrainingRule(parameters=1000, tokens=20_000).learning_rate == 0.004


def test_the_table_in_the_documentation_is_the_rule() -> None:
    documented = re.findall(r"^ +(\d+) +(\d+) +(\d+) +.* (0\.\d{4})$", size.__doc__ or "", re.MULTILINE)
    assert [tuple(map(float, row)) for row in documented] == [
        (row["size"], row["width"], row["heads"], round(row["learning_rate"], 4)) for row in size_table()
    ]
    assert all(line.rstrip() in (size.__doc__ or "") for line in list(size_lines(size_table()))[:-1])
