"""`mlx-suite bench merge`: the peak of a merge is far below the size of a model."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlx_suite_apps.bench.merging import ONE_BILLION, PLAIN, measure_merges, write_random
from mlx_suite_apps.cli.main import app
from tests.transfer.merge.models import weights_of

SMALL = ONE_BILLION | {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "num_hidden_layers": 2,
}


def test_random_models_have_the_shape_of_their_config(tmp_path: Path) -> None:
    write_random(tmp_path / "m", SMALL, seed=1)
    weights = weights_of(tmp_path / "m")
    assert weights["model.embed_tokens.weight"].shape == (64, 16)
    assert 0.015 < weights["model.layers.1.mlp.up_proj.weight"].std() < 0.025


def test_an_unknown_method_is_refused_before_anything_is_written() -> None:
    result = CliRunner().invoke(app, ["bench", "merge", "passthrough"])
    assert getattr(result.exception, "what", "") == "METHOD is 'passthrough'"


@pytest.mark.slow
def test_both_sides_are_reported() -> None:
    result = CliRunner().invoke(app, ["bench", "merge", "linear", "--layers", "1", "--json"], catch_exceptions=False)
    ours, plain = json.loads(result.stdout)
    assert (ours["name"], plain["name"]) == ("linear", PLAIN)
    assert ours["resident_bytes"] < plain["resident_bytes"]


@pytest.mark.slow
@pytest.mark.parametrize("models", [2, 5])
def test_a_merge_of_any_number_of_models_stays_below_three_tensors_and_one_model(models: int, tmp_path: Path) -> None:
    """1.2 billion parameters: 2.47 GB per model, 1.05 GB for the largest tensor in fp32."""
    methods = ("linear", "ties", "dare", "model-stock", "karcher", "warp")
    for cost in measure_merges(ONE_BILLION, tmp_path, methods, models=models, plain=False):
        assert cost.mlx_bytes < 0.25 * cost.largest_bytes
        assert cost.resident_bytes < cost.largest_bytes < cost.model_bytes
