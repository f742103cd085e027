"""A multimodal Gemma 3 loads as its language model, under the names of either generation of transformers."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlx_suite.checkpoints.config_file import read_config
from mlx_suite.checkpoints.description import describe
from mlx_suite.checkpoints.load import load_model
from mlx_suite.checkpoints.save import save_model
from mlx_suite.checkpoints.weights import named_parameters, parameter_count
from mlx_suite.modeling.config import ModelConfig
from tests.modeling.tiny import FAMILIES, tiny_model, tokens

TEXT = FAMILIES["gemma3_text"]


def multimodal(folder: Path, body: str) -> Any:
    """Write a checkpoint whose language model is at `body`, beside a vision tower; returns the language model."""
    model = tiny_model("gemma3_text")
    folder.mkdir()
    config = {
        "model_type": "gemma3",
        "architectures": ["Gemma3ForConditionalGeneration"],
        "text_config": TEXT,
        "vision_config": {"hidden_size": 8, "num_hidden_layers": 1},
        "eos_token_id": [1, 106],
        "image_token_index": 49,
    }
    (folder / "config.json").write_text(json.dumps(config))
    arrays = {name.replace("model.", body, 1): array for name, array in named_parameters(model).items()}
    prefix = "model." if body == "model.language_model." else ""
    arrays[f"{prefix}vision_tower.vision_model.post_layernorm.weight"] = mx.ones((8,))
    arrays[f"{prefix}multi_modal_projector.mm_input_projection_weight"] = mx.ones((8, 32))
    mx.save_safetensors(str(folder / "model.safetensors"), arrays, metadata={"format": "pt"})
    return model


@pytest.mark.parametrize("body", ["language_model.model.", "model.language_model."])
def test_the_text_part_is_loaded_described_and_saved_as_a_text_model(body: str, tmp_path: Path) -> None:
    expected = multimodal(tmp_path / "both", body)
    model = load_model(tmp_path / "both")
    assert mx.array_equal(model(tokens(20)), expected(tokens(20))).item()
    found = describe(tmp_path / "both")
    assert found.parameters == parameter_count(expected.parameters())
    assert (found.model_type, found.layers, found.window, found.window_layers) == ("gemma3", 3, 6, 2)
    save_model(tmp_path / "text", model)
    saved = json.loads((tmp_path / "text" / "config.json").read_text())
    assert (saved["model_type"], saved["architectures"]) == ("gemma3_text", ["Gemma3ForCausalLM"])
    assert saved["eos_token_id"] == [1, 106]
    assert "vision_config" not in saved and "image_token_index" not in saved
    assert mx.array_equal(load_model(tmp_path / "text")(tokens(20)), expected(tokens(20))).item()


def test_the_config_of_the_text_part_is_what_a_multimodal_folder_states(tmp_path: Path) -> None:
    multimodal(tmp_path / "both", "language_model.model.")
    config = read_config(tmp_path / "both")
    assert config["model_type"] == "gemma3_text"
    assert ModelConfig.from_dict(config) == ModelConfig.from_dict(TEXT)


def test_the_short_config_of_the_published_4b_model_is_completed_with_the_defaults() -> None:
    """google/gemma-3-4b-it states only what differs from the defaults of transformers."""
    text = {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    }
    config = ModelConfig.from_dict({"model_type": "gemma3", "text_config": text})
    assert (config.vocab_size, config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (
        262208,
        8,
        4,
        256,
    )
    assert config.windows == ((1024,) * 5 + (None,)) * 5 + (1024,) * 4
    assert (config.rope.theta, config.rope.kind, config.rope.factor) == (1_000_000.0, "linear", 8.0)
    assert config.local_rope is not None
    assert (config.local_rope.theta, config.local_rope.kind) == (10_000.0, "default")
