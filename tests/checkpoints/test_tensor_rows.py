"""Rows of stored weights are those of the loaded model, dense or quantized, in any shard."""

from pathlib import Path

import mlx.core as mx
import pytest

from mlx_suite.checkpoints.config_file import read_config
from mlx_suite.checkpoints.load import load_model
from mlx_suite.checkpoints.save import save_model
from mlx_suite.checkpoints.tensor_rows import stored_weights
from mlx_suite.checkpoints.weights import named_parameters
from mlx_suite.runtime.errors import UserError
from tests.export.checkpoints import quantized_checkpoint, random_checkpoint
from tests.modeling.tiny import tiny_model


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_rows_are_read_from_every_shard_and_dtype(dtype: str, tmp_path: Path) -> None:
    save_model(tmp_path / "m", tiny_model("qwen3"), dtype=dtype, max_shard_bytes=9000)
    weights = stored_weights(tmp_path / "m", read_config(tmp_path / "m"))
    loaded = named_parameters(load_model(tmp_path / "m", dtype="float32"))
    assert weights.keys() == loaded.keys()
    for name, weight in weights.items():
        start = weight.row_count // 3
        assert mx.array_equal(weight.rows(start, weight.row_count), loaded[name].reshape(weight.row_count, -1)[start:])


def test_rows_of_quantized_matrices_are_dequantized(tmp_path: Path) -> None:
    quantized_checkpoint(tmp_path / "m")
    weights = stored_weights(tmp_path / "m", read_config(tmp_path / "m"))
    loaded = named_parameters(load_model(tmp_path / "m", dtype="float32", dequantize=True))
    for name, weight in weights.items():
        rows = weight.rows(1, min(7, weight.row_count))
        assert mx.allclose(rows, loaded[name].reshape(weight.row_count, -1)[1:7], atol=1e-6)
    assert sum(weight.quantization is not None for weight in weights.values()) == 23


def test_weights_that_do_not_fit_the_config_are_refused(tmp_path: Path) -> None:
    random_checkpoint(tmp_path / "m", "llama")
    config = read_config(tmp_path / "m") | {"intermediate_size": 40}
    with pytest.raises(UserError) as caught:
        stored_weights(tmp_path / "m", config)
    assert "model.layers.0.mlp.down_proj.weight is (32, 48), not (32, 40)" in caught.value.details
