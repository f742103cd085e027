"""`config.json`: reading, validation and writing."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlx_suite.checkpoints.config_file import config_to_dict, read_config
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.modeling.rope_settings import RopeSettings
from mlx_suite.runtime.errors import UserError
from tests.modeling.tiny import FAMILIES, PUBLISHED, SHAPE


def read(family: str, **changes: Any) -> ModelConfig:
    return ModelConfig.from_dict(FAMILIES[family] | changes)


def without(settings: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in keys}


def test_missing_keys_get_the_defaults_of_transformers() -> None:
    bare = without(SHAPE, "head_dim", "num_key_value_heads")
    llama = ModelConfig.from_dict(bare | {"model_type": "llama"})
    assert (llama.head_dim, llama.num_key_value_heads, llama.windows, llama.tie_word_embeddings) == (
        8,
        4,
        (None,) * 3,
        False,
    )
    mistral = ModelConfig.from_dict(bare | {"model_type": "mistral", "num_attention_heads": 16})
    assert (mistral.num_key_value_heads, mistral.windows, mistral.tie_word_embeddings) == (8, (4096,) * 3, False)
    gemma = ModelConfig.from_dict(bare | {"model_type": "gemma2"})
    assert (gemma.head_dim, gemma.num_key_value_heads, gemma.windows, gemma.tie_word_embeddings) == (
        256,
        4,
        (4096, None, 4096),
        True,
    )
    assert (gemma.query_pre_attn_scalar, gemma.attn_logit_softcapping, gemma.final_logit_softcapping) == (256, 50, 30)


def test_null_differs_from_a_missing_key() -> None:
    """Mistral 7B v0.2 and later write `"sliding_window": null` and have none."""
    assert read("mistral", sliding_window=None).windows == (None,) * 3
    gemma = read("gemma2", attn_logit_softcapping=None, final_logit_softcapping=None)
    assert (gemma.attn_logit_softcapping, gemma.final_logit_softcapping) == (None, None)


def test_a_window_of_a_llama_config_is_not_used() -> None:
    assert read("llama", sliding_window=8).windows == (None,) * 3


def test_layer_types_say_which_layers_are_local() -> None:
    kinds = ["full_attention", "sliding_attention", "sliding_attention"]
    assert read("gemma2", layer_types=kinds).windows == (None, 6, 6)
    assert read("mistral", layer_types=kinds).windows == (None, 6, 6)


def test_the_older_of_two_rope_tables_takes_precedence_as_in_transformers() -> None:
    config = read("llama", rope_scaling={"type": "linear", "factor": 2.0}, rope_parameters={"rope_theta": 5.0})
    assert config.rope == RopeSettings(theta=10000.0, kind="linear", factor=2.0)


def test_gemma_3_has_one_rope_for_global_and_one_for_local_layers_in_either_form_of_keys() -> None:
    older = read(
        "gemma3_text",
        rope_theta=7000.0,
        rope_local_base_freq=300.0,
        rope_scaling={"rope_type": "linear", "factor": 8.0},
    )
    newer = read(
        "gemma3_text",
        rope_parameters={
            "full_attention": {"rope_type": "linear", "rope_theta": 7000.0, "factor": 8.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 300.0},
        },
    )
    assert older == newer
    assert older.rope == RopeSettings(theta=7000.0, kind="linear", factor=8.0)
    assert older.local_rope == RopeSettings(theta=300.0)
    assert read("gemma3_text").rope == RopeSettings(theta=1000000.0)


def test_every_sixth_layer_of_a_gemma_3_is_global_unless_it_states_another_pattern() -> None:
    six = without(FAMILIES["gemma3_text"], "sliding_window_pattern") | {"num_hidden_layers": 8}
    assert ModelConfig.from_dict(six).windows == (6, 6, 6, 6, 6, None, 6, 6)
    assert read("gemma3_text").windows == (6, 6, None)


def test_a_qwen_3_has_windows_only_if_it_says_so() -> None:
    assert read("qwen3", sliding_window=6, max_window_layers=0).windows == (None,) * 3
    assert read("qwen3", sliding_window=6, max_window_layers=2, use_sliding_window=True).windows == (None, None, 6)


def test_llama_3_scaling_defaults_to_the_models_own_context() -> None:
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    assert read("llama", rope_scaling=scaling).rope.original_max_position_embeddings == 128


def test_all_problems_of_a_config_are_listed_in_one_error() -> None:
    with pytest.raises(UserError) as error:
        ModelConfig.from_dict(
            {"model_type": "llama", "vocab_size": "many", "hidden_size": 0, "num_attention_heads": True}
            | {"num_hidden_layers": 2.0, "rope_theta": "big"},
            where="folder/config.json",
        )
    assert error.value.where == "folder/config.json"
    for problem in (
        "intermediate_size is missing",
        "rms_norm_eps is missing",
        "vocab_size is 'many', not a positive whole number",
        "hidden_size is 0, not a positive whole number",
        "num_attention_heads is True, not a positive whole number",
        "num_hidden_layers is 2.0, not a positive whole number",
        "rope_theta is 'big', not a positive number",
    ):
        assert problem in error.value.what


@pytest.mark.parametrize(
    ("family", "changes", "problem"),
    [
        ("llama", {"model_type": "bert"}, "model_type is 'bert', not one of llama, mistral, gemma2"),
        ("llama", {"model_type": ["llama"]}, "model_type is ['llama'], not one of"),
        ("llama", {"num_attention_heads": 3}, "num_attention_heads 3 is not a multiple of num_key_value_heads 2"),
        ("llama", {"head_dim": 5}, "head_dim 5 is odd"),
        ("llama", {"head_dim": None, "hidden_size": 30}, "hidden_size 30 is not a multiple of num_attention_heads 4"),
        ("llama", {"hidden_act": "relu"}, "the activation is 'relu'; llama uses silu"),
        ("gemma2", {"hidden_activation": "silu"}, "the activation is 'silu'; gemma2 uses gelu_pytorch_tanh"),
        ("llama", {"rope_scaling": [8]}, "rope_scaling is [8], not a mapping of settings"),
        ("llama", {"rope_scaling": {"rope_type": "ntk"}}, "rope scaling 'ntk' is not supported; supported: default"),
        ("llama", {"rope_scaling": {"rope_type": ["yarn"]}}, "rope scaling ['yarn'] is not supported"),
        ("llama", {"rope_scaling": {"rope_type": "yarn", "factor": -2}}, "yarn rope scaling lacks a positive factor"),
        ("llama", {"rope_scaling": {"type": "dynamic"}}, "dynamic rope scaling lacks a positive factor"),
        ("llama", {"rope_scaling": {"type": "yarn", "beta_fast": "x"}}, "beta_fast is 'x', not a positive number"),
        (
            "llama",
            {"rope_scaling": {"type": "longrope", "short_factor": 1}},
            "lacks a list of positive numbers short_f",
        ),
        (
            "llama",
            {"rope_scaling": {"type": "longrope", "long_factor": [1, 2]}},
            "long_factor has 2 numbers, not one for",
        ),
        ("llama", {"rope_scaling": {"type": "linear"}}, "linear rope scaling lacks a positive factor"),
        ("llama", {"rope_scaling": {"rope_type": "llama3", "factor": 8}}, "lacks a positive low_freq_factor"),
        ("llama", {"rope_parameters": {"full_attention": {}}}, "rope_parameters differs between layers"),
        ("gemma3_text", {"rope_parameters": {"rope_theta": 5.0}}, "rope_parameters has keys other than full_attention"),
        ("gemma3_text", {"rope_scaling": {"rope_type": "ntk"}}, "rope scaling 'ntk' is not supported"),
        ("gemma3_text", {"rope_local_base_freq": 0}, "rope_local_base_freq is 0, not a positive number"),
        ("gemma3_text", {"sliding_window": None}, "sliding_window is null, but the model has local layers"),
        ("gemma3_text", {"sliding_window_pattern": 0}, "sliding_window_pattern is 0, not a positive whole number"),
        ("qwen3", {"max_window_layers": -1}, "max_window_layers is -1, not a whole number"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
        ("mistral", {"sliding_window": -1}, "sliding_window is -1, not a positive whole number"),
        ("gemma2", {"layer_types": ["full_attention"]}, "layer_types names 1 layers, num_hidden_layers is 3"),
        ("gemma2", {"layer_types": "local"}, "layer_types is 'local', not a list"),
        ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention is set"),
    ],
)
def test_a_config_that_would_give_wrong_logits_is_rejected(family: str, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError) as error:
        read(family, **changes)
    assert problem in error.value.what


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "the folder contains no config.json"),
        ("{", "config.json is not JSON"),
        ("[1]", "config.json contains a list, not an object"),
        ("{}", "config.json has no model_type"),
        ('{"model_type": 7}', "model_type is 7, not a text"),
        (b"\xff\xfe\x00", "config.json is not UTF-8 text"),
    ],
)
def test_an_invalid_config_file_is_rejected(tmp_path: Path, content: str | bytes | None, problem: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError, match=problem) as error:
        read_config(tmp_path)
    assert str(tmp_path) in error.value.where


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the folder does not exist"):
        read_config(tmp_path / "nowhere")


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_config_survives_writing_and_reading(name: str) -> None:
    config = ModelConfig.from_dict(PUBLISHED[name])
    written = json.loads(json.dumps(config_to_dict(config)))
    assert ModelConfig.from_dict(written) == config
    assert written | PUBLISHED[name] == written  # existing keys are unchanged


def test_unknown_keys_are_kept() -> None:
    written = config_to_dict(read("llama", eos_token_id=[3, 4], transformers_version="4.40", note={"a": 1}))
    assert written["eos_token_id"] == [3, 4]
    assert written["transformers_version"] == "4.40"
    assert written["note"] == {"a": 1}


def test_newer_rope_keys_are_written_in_both_generations() -> None:
    """mlx-lm 0.32.2 reads only the older one."""
    parameters = {"rope_type": "linear", "rope_theta": 7.0, "factor": 2.0}
    written = config_to_dict(read("llama", rope_parameters=parameters))
    assert written["rope_parameters"] == parameters
    assert written["rope_theta"] == 7.0
    assert written["rope_scaling"] == {"rope_type": "linear", "factor": 2.0}


def test_a_config_made_in_code_is_written_completely() -> None:
    config = ModelConfig(
        model_type="gemma2",
        vocab_size=10,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=4,
        rms_norm_eps=1e-6,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        rope=RopeSettings(),
        windows=(None, 4),
        attn_logit_softcapping=50.0,
    )
    written = config_to_dict(config)
    assert written["architectures"] == ["Gemma2ForCausalLM"]
    assert written["layer_types"] == ["full_attention", "sliding_attention"]
    assert written["query_pre_attn_scalar"] == 4
    assert written["final_logit_softcapping"] is None
    assert ModelConfig.from_dict(written).windows == (None, 4)
