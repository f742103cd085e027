"""Weights that contradict their config.json decide."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlx_suite.checkpoints.config_file import read_config
from mlx_suite.checkpoints.description import describe
from mlx_suite.checkpoints.load import load_model
from mlx_suite.checkpoints.save import save_model
from tests.modeling.tiny import tiny_model, tokens

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128}


def checkpoint(folder: Path, family: str, weights: dict[str, mx.array], **changes: Any) -> Path:
    """A tied model of a family, with further weights and keys of its config."""
    save_model(folder, tiny_model(family, tie_word_embeddings=True))
    stored = mx.load(str(folder / "model.safetensors"))
    assert isinstance(stored, dict)
    mx.save_safetensors(str(folder / "model.safetensors"), {**stored, **weights}, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen3"])
def test_a_head_that_differs_from_the_embedding_is_used_though_the_config_says_tied(
    family: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = mx.random.normal((50, 32))
    model = load_model(checkpoint(tmp_path / "own", family, {HEAD: own}))
    assert not model.config.tie_word_embeddings
    assert mx.array_equal(model.lm_head.weight, own)
    assert "the weights have a head that differs from the embedding" in caplog.text
    save_model(tmp_path / "again", model)
    assert mx.array_equal(load_model(tmp_path / "again")(tokens(5)), model(tokens(5)))


def test_a_copy_of_the_embedding_is_no_head_of_its_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    same = tiny_model("llama", tie_word_embeddings=True)
    folder = checkpoint(tmp_path / "copy", "llama", {HEAD: same.model.embed_tokens.weight})
    model = load_model(folder)
    assert model.config.tie_word_embeddings and "lm_head" not in model
    assert describe(folder).parameters == describe(checkpoint(tmp_path / "tied", "llama", {})).parameters
    assert not caplog.text


def test_a_head_of_its_own_counts_as_parameters(tmp_path: Path) -> None:
    tied = describe(checkpoint(tmp_path / "tied", "llama", {})).parameters
    own = describe(checkpoint(tmp_path / "own", "llama", {HEAD: mx.zeros((50, 32))})).parameters
    assert tied is not None and own == tied + 50 * 32


def test_a_tied_matrix_stored_as_the_head_only_is_the_embedding_too(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "head", "llama", {})
    stored = mx.load(str(folder / "model.safetensors"))
    assert isinstance(stored, dict)
    expected = load_model(folder)(tokens(5))
    stored[HEAD] = stored.pop(EMBEDDING)
    mx.save_safetensors(str(folder / "model.safetensors"), stored)
    assert mx.array_equal(load_model(folder)(tokens(5)), expected)


@pytest.mark.parametrize("key", ["quantization", "quantization_config"])
def test_settings_of_a_quantization_that_was_undone_are_ignored(
    key: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = checkpoint(tmp_path / "plain", "llama", {}, **{key: GPTQ})
    model = load_model(folder)
    assert type(model).__module__ == "mlx_suite.modeling.llama"
    assert f"the weights are not quantized, so {key} of config.json is ignored" in caplog.text
    assert key not in read_config(folder)
    assert describe(folder).quantization is None
    save_model(tmp_path / "again", model)
    assert key not in json.loads((tmp_path / "again" / "config.json").read_text())


def test_mlx_lm_too_ignores_a_quantization_that_was_undone(tmp_path: Path) -> None:
    from tests.checkpoints.test_load import change_config, qwen2

    expected = qwen2(tmp_path / "model")
    change_config(tmp_path / "model", quantization_config=GPTQ)
    model = load_model(tmp_path / "model")
    assert mx.allclose(model(tokens(5)), expected(tokens(5)), atol=1e-4)
