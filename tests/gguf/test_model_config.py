"""The config of a GGUF file's model, with the constants that the file does not hold."""

from pathlib import Path
from typing import Any

import pytest

from mlx_suite.gguf.file import open_gguf
from mlx_suite.gguf.model_config import config_of
from mlx_suite.runtime.errors import UserError
from tests.gguf.files import write_file


def config(tmp_path: Path, architecture: str, **changes: Any) -> dict[str, Any]:
    found, _ = config_of(open_gguf(write_file(tmp_path / "model.gguf", architecture, **changes)))
    return found


def refused(tmp_path: Path, architecture: str = "llama", **changes: Any) -> UserError:
    with pytest.raises(UserError) as caught:
        config(tmp_path, architecture, **changes)
    return caught.value


def test_a_llama(tmp_path: Path) -> None:
    assert config(tmp_path, "llama") == {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": 260,
        "hidden_size": 256,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-06,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "bos_token_id": 257,
        "eos_token_id": 258,
        "attention_bias": False,
        "mlp_bias": False,
    }


def test_a_head_of_its_own_is_not_tied(tmp_path: Path) -> None:
    assert config(tmp_path, "llama", tie_word_embeddings=False)["tie_word_embeddings"] is False


def test_gemma_2_has_caps_a_window_and_the_scale_of_its_size(tmp_path: Path) -> None:
    found = config(tmp_path, "gemma2")
    assert found["model_type"] == "gemma2"
    assert (found["attn_logit_softcapping"], found["final_logit_softcapping"]) == (50.0, 30.0)
    assert (found["sliding_window"], found["query_pre_attn_scalar"]) == (4096, 128)
    assert found["hidden_activation"] == "gelu_pytorch_tanh"
    assert config(tmp_path, "gemma2", num_hidden_layers=46)["query_pre_attn_scalar"] == 64  # d / H, as in the 27B


def test_gemma_3_has_two_bases_and_every_sixth_layer_global(tmp_path: Path) -> None:
    keys = {"gemma3.attention.sliding_window": 512, "gemma3.rope.freq_base": 1e6}
    found = config(tmp_path, "gemma3", num_hidden_layers=7, metadata=keys)
    assert found["model_type"] == "gemma3_text"
    assert (found["rope_theta"], found["rope_local_base_freq"], found["rope_scaling"]) == (1e6, 10000.0, None)
    assert found["layer_types"] == ["sliding_attention"] * 5 + ["full_attention", "sliding_attention"]
    assert (found["sliding_window"], found["sliding_window_pattern"]) == (512, 6)
    assert found["final_logit_softcapping"] is None


def test_the_larger_gemma_3_models_scale_their_global_layers(tmp_path: Path) -> None:
    scaling = {"gemma3.rope.scaling.type": "linear", "gemma3.rope.scaling.factor": 8.0}
    found = config(tmp_path, "gemma3", metadata={"gemma3.attention.sliding_window": 1024, **scaling})
    assert found["rope_scaling"] == {"rope_type": "linear", "factor": 8.0}


def test_qwen_2_and_3(tmp_path: Path) -> None:
    assert config(tmp_path, "qwen2")["model_type"] == "qwen2"
    found = config(tmp_path, "qwen3")
    assert (found["model_type"], found["attention_bias"], found["head_dim"]) == ("qwen3", False, 128)


def test_a_mistral_is_known_by_its_name_or_window(tmp_path: Path) -> None:
    found = config(tmp_path, "llama", metadata={"general.name": "Mistral 7B Instruct v0.3"})
    assert (found["model_type"], found["sliding_window"]) == ("mistral", None)
    found = config(tmp_path, "llama", metadata={"llama.attention.sliding_window": 4096})
    assert (found["model_type"], found["sliding_window"]) == ("mistral", 4096)
    _, notes = config_of(open_gguf(write_file(tmp_path / "m.gguf", metadata={"general.name": "Mistral 7B v0.1"})))
    assert notes == [
        "The file does not say whether the model has a sliding window: Mistral 7B v0.1 has one of 4,096 tokens, and is "
        "wrong beyond them; later ones have none."
    ]


@pytest.mark.parametrize(
    ("architecture", "metadata", "what"),
    [
        ("llama", {"general.type": "adapter"}, "the GGUF file holds an adapter, not a model"),
        ("clip", {}, "the GGUF file holds the vision part of a model"),
        ("llama", {"general.type": "imatrix"}, "the GGUF file holds a imatrix, not a model"),
        ("qwen35moe", {}, "the architecture 'qwen35moe' cannot be imported from GGUF"),
    ],
)
def test_other_files_are_refused_by_what_they_hold(
    architecture: str, metadata: dict[str, Any], what: str, tmp_path: Path
) -> None:
    weights = None if architecture == "llama" else {}
    assert refused(tmp_path, architecture, metadata=metadata, weights=weights).what == what


def test_a_vocabulary_alone_is_no_model(tmp_path: Path) -> None:
    assert refused(tmp_path, weights={}).what == "the GGUF file holds a vocabulary and no weights"


def test_everything_wrong_with_the_metadata_is_listed(tmp_path: Path) -> None:
    keys = {
        "llama.block_count": None,
        "llama.attention.head_count_kv": [1, 2],
        "llama.expert_count": 8,
        "llama.rope.dimension_count": 64,
        "llama.rope.scaling.type": "yarn",
    }
    assert refused(tmp_path, metadata=keys).details == (
        "it is a mixture of 8 experts, which is not supported",
        "RoPE rotates a part of each head only, which is not supported",
        "RoPE is scaled by yarn, which is not supported",
        "llama.block_count is missing",
        "llama.attention.head_count_kv differs between layers",
    )
