"""The model of a run: from the dial, a mapping, a config.json or a checkpoint."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_suite.checkpoints.weights import named_parameters
from mlx_suite.modeling.gemma2 import Gemma2
from mlx_suite.modeling.llama import Llama
from mlx_suite.pretrain.model import ModelSource, make_model, model_source, saved_dtype
from mlx_suite.pretrain.settings import PretrainSettings
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import load_tokenizer
from tests.pretrain.story import SHAPE, rhyme_settings


def source(letters: Path, folder: Path, **changes: Any) -> ModelSource:
    settings = rhyme_settings(letters, folder, **changes)
    return model_source(settings, letters if settings.checkpoint else None, load_tokenizer(letters))


def test_a_mapping_gets_the_tokenizer_s_vocabulary_and_marks(letters: Path, tmp_path: Path) -> None:
    config = source(letters, tmp_path).config
    assert (config.vocab_size, config.hidden_size, config.max_position_embeddings) == (272, 32, 2048)
    assert config.source["bos_token_id"] == load_tokenizer(letters).bos_id
    assert source(letters, tmp_path, config=SHAPE | {"vocab_size": 300}).config.vocab_size == 300


def test_a_config_file_lends_its_shape_but_not_its_vocabulary(letters: Path, tmp_path: Path) -> None:
    shape = {"model_type": "mistral", "rms_norm_eps": 1e-6, "sliding_window": 8, "vocab_size": 32000, "bos_token_id": 1}
    (tmp_path / "config.json").write_text(json.dumps(SHAPE | shape))
    for given in (tmp_path, tmp_path / "config.json"):
        config = source(letters, tmp_path, config=str(given)).config
        assert (config.model_type, config.vocab_size, config.windows) == ("mistral", 272, (8, 8))
        assert config.source["bos_token_id"] == load_tokenizer(letters).bos_id


def test_the_dial_s_context_is_the_row_length(letters: Path, tmp_path: Path) -> None:
    assert source(letters, tmp_path, config=None, size=2, length=None).config.max_position_embeddings == 512
    assert source(letters, tmp_path, config=None, size=2, length=1000).config.max_position_embeddings == 1000


def test_a_vocabulary_smaller_than_the_tokenizer_s_is_refused(letters: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="100 embedding rows, but the tokenizer 272 ids"):
        source(letters, tmp_path, config=SHAPE | {"vocab_size": 100})


def test_problems_of_a_config_are_listed(letters: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        source(letters, tmp_path, config={"hidden_size": -1, "model_type": "gpt2"})
    assert "num_hidden_layers is missing" in caught.value.what
    assert "model_type is 'gpt2'" in caught.value.what
    assert caught.value.where == "config"


@pytest.mark.parametrize(("family", "kind"), [("llama", Llama), ("mistral", Llama), ("gemma2", Gemma2)])
def test_every_family_starts_from_weights_of_the_seed(letters: Path, tmp_path: Path, family: str, kind: type) -> None:
    settings = rhyme_settings(letters, tmp_path, config=SHAPE | {"model_type": family, "head_dim": 16})
    made = model_source(settings, None, load_tokenizer(letters))

    def weights(settings: PretrainSettings) -> dict[str, np.ndarray]:
        model = make_model(settings, made, "float32")
        assert isinstance(model, kind)
        return {name: np.array(array) for name, array in named_parameters(model).items()}

    first, again, other = weights(settings), weights(settings), weights(replace(settings, seed=1))
    assert all((first[name] == again[name]).all() for name in first)
    assert all((first[name] != other[name]).any() for name in first if first[name].ndim == 2)


def test_weights_are_made_and_saved_in_the_dtype_of_the_settings(letters: Path, tmp_path: Path) -> None:
    settings = rhyme_settings(letters, tmp_path)
    made = model_source(settings, None, load_tokenizer(letters))
    model = make_model(settings, made, "bfloat16")
    assert {array.dtype for array in named_parameters(model).values()} == {mx.bfloat16}
    assert saved_dtype(made) is None


def test_a_checkpoint_is_loaded_and_saved_in_its_own_dtype(letters: Path, tmp_path: Path) -> None:
    settings = rhyme_settings(letters, tmp_path, config=None, tokenizer=None, checkpoint=str(letters))
    loaded = model_source(settings, letters, load_tokenizer(letters))
    model = make_model(settings, loaded, "float32")
    stored = mx.load(str(letters / "model.safetensors"))
    assert isinstance(stored, dict)
    weights = named_parameters(model)
    assert all(mx.array_equal(array, stored[name].astype(mx.float32)) for name, array in weights.items())
    assert saved_dtype(loaded) is None  # this config.json states none
    config = json.loads((letters / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"torch_dtype": "bfloat16"}))
    assert saved_dtype(replace(loaded, folder=tmp_path)) == mx.bfloat16
