"""Quantized checkpoints equal mlx-lm's bit for bit; the result reports size and what was lost."""

import json
from pathlib import Path

import mlx.core as mx
import pytest
from mlx_lm.utils import load_model as load_model_by_mlx_lm
from mlx_lm.utils import quantize_model

from mlx_suite.checkpoints.load import load_model
from mlx_suite.checkpoints.quantization import quantized_layers
from mlx_suite.checkpoints.safetensors_header import read_headers
from mlx_suite.checkpoints.save import save_model
from mlx_suite.checkpoints.weights import named_parameters
from mlx_suite.export.quantize import quantize_checkpoint
from mlx_suite.runtime.errors import UserError
from tests.magpie.random_checkpoint import write_checkpoint
from tests.modeling.tiny import largest_difference, tokens


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with matrices of 32 and 64 columns, in bfloat16."""
    folder = tmp_path_factory.mktemp("models") / "base"
    folder.mkdir()
    write_checkpoint(folder)
    config = json.loads((folder / "config.json").read_text())
    save_model(folder, load_model(folder), config, dtype="bfloat16", tokenizer_from=folder)
    return folder


@pytest.mark.parametrize(("bits", "group_size"), [(2, 32), (3, 32), (4, 32), (5, 32), (6, 32), (8, 32), (4, 64)])
def test_it_quantizes_the_same_layers_as_mlx_lm_to_the_same_bits(
    bits: int, group_size: int, base: Path, tmp_path: Path
) -> None:
    packed = quantize_checkpoint(base, tmp_path / "out", bits=bits, group_size=group_size)
    theirs, _ = load_model_by_mlx_lm(base)
    theirs, _ = quantize_model(theirs, {}, group_size, bits)
    ours = load_model(tmp_path / "out", dtype="bfloat16", dequantize=False)
    expected, found = named_parameters(theirs), named_parameters(ours)
    assert found.keys() == expected.keys()
    assert all(mx.array_equal(found[name], expected[name]).item() for name in expected)
    assert packed.packed == len(quantized_layers(ours)) == (16 if group_size == 32 else 2)


def test_mlx_lm_loads_the_quantized_checkpoint(base: Path, tmp_path: Path) -> None:
    quantize_checkpoint(base, tmp_path / "out", bits=4, group_size=64)
    theirs, _ = load_model_by_mlx_lm(tmp_path / "out")
    ours = load_model(tmp_path / "out", dtype="bfloat16", dequantize=False)
    assert largest_difference(ours(tokens(9)), theirs(tokens(9))) <= 0.25  # bfloat16, logits of tens
    settings = json.loads((tmp_path / "out" / "config.json").read_text())
    assert settings["quantization"] == {"group_size": 64, "bits": 4, "mode": "affine"}
    assert (tmp_path / "out" / "tokenizer.json").is_file()


def test_the_result_reports_sizes_dense_layers_and_loss(base: Path, tmp_path: Path) -> None:
    four = quantize_checkpoint(base, tmp_path / "four", bits=4, group_size=32)
    eight = quantize_checkpoint(base, tmp_path / "eight", bits=8, group_size=32)
    weights = sum(header.size for header in read_headers(base).values())
    assert four.bytes_before == eight.bytes_before == 2 * weights
    # 4 bits, plus a 16-bit scale and bias per 32 columns; norms stay dense.
    assert 5.0 < four.bits_per_weight < 5.2
    assert four.bytes_after == sum(header.num_bytes for header in read_headers(tmp_path / "four").values())
    assert four.loss.tokens == eight.loss.tokens > 100
    assert four.loss.before == eight.loss.before
    assert abs(eight.loss.rise) < abs(four.loss.rise)
    assert eight.loss.agreement >= four.loss.agreement
    assert four.left == ()


def test_layers_that_no_group_divides_stay_dense_and_are_reported(base: Path, tmp_path: Path) -> None:
    packed = quantize_checkpoint(base, tmp_path / "out", bits=4, group_size=64)
    assert len(packed.left) == 14
    assert "model.layers.0.self_attn.q_proj" in packed.left
    assert "model.layers.0.mlp.down_proj" not in packed.left
    with pytest.raises(UserError, match="No layer can be quantized: groups of 128") as caught:
        quantize_checkpoint(base, tmp_path / "none", bits=4, group_size=128)
    assert caught.value.fix == "choose a smaller group"
    assert not (tmp_path / "none").exists()


def test_a_quantized_model_is_not_quantized_again(base: Path, tmp_path: Path) -> None:
    quantize_checkpoint(base, tmp_path / "out", bits=8, group_size=32)
    with pytest.raises(UserError, match="already quantized"):
        quantize_checkpoint(tmp_path / "out", tmp_path / "again", bits=4, group_size=32)


def test_every_invalid_value_is_reported(base: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        quantize_checkpoint(base, tmp_path / "out", bits=7, group_size=16, target_bpw=5, high_bits=6)
    assert caught.value.details == (
        "--bits is 7: expected one of 2, 3, 4, 5, 6, 8",
        "--group-size is 16: expected one of 32, 64, 128",
        "--high-bits is 6: expected more than --bits, which is 7",
    )
