"""The `config.json` of a model in a GGUF file: from its metadata, its tensors and constants of its family.

llama.cpp keeps some constants in its code (`src/models/*.cpp`, `src/llama-model.cpp`): the pattern of local and global
layers, the base of local RoPE, the scale of the queries. They are filled in here.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mlx_suite.gguf.file import GgufFile
from mlx_suite.gguf.rope_factors import rope_scaling_of
from mlx_suite.runtime.errors import UserError

GEMMA_TYPES = ("gemma2", "gemma3")


def config_of(gguf: GgufFile) -> tuple[dict[str, Any], list[str]]:
    """The config of the model in a file, and notes on what the file does not say.

    Raises UserError that lists everything missing or unsupported, and for files that hold no language model.
    """
    refuse_other_files(gguf)
    keys = _Keys(gguf)
    architecture = gguf.architecture
    config = _common(gguf, keys)
    notes = FAMILIES[architecture](gguf, keys, config)
    if keys.problems:
        raise UserError(
            "the metadata of the GGUF file does not describe a supported model",
            details=keys.problems,
            where=str(gguf.path),
            fix="use another file of the same model, or the model in Hugging Face's format",
        )
    return config, notes


def refuse_other_files(gguf: GgufFile) -> None:
    """Raise UserError for a file with an adapter, a vision part, a vocabulary alone or an unsupported architecture."""
    kind, architecture = gguf.metadata.get("general.type", "model"), gguf.architecture
    other = {
        "adapter": (
            "an adapter, not a model",
            "use the model, or the adapter in PEFT's format",
        ),
        "mmproj": ("the vision part of a model", "use the file with the language model, without mmproj in its name"),
    }
    if architecture == "clip":
        kind = "mmproj"
    if kind in other:
        what, fix = other[kind]
        raise UserError(f"the GGUF file holds {what}", where=str(gguf.path), fix=fix)
    if kind != "model":
        raise UserError(f"the GGUF file holds a {kind}, not a model", where=str(gguf.path), fix="use a model's file")
    if architecture not in FAMILIES:
        raise UserError(
            f"the architecture {architecture!r} cannot be imported from GGUF"
            if architecture
            else "the GGUF file does not name its architecture",
            where=str(gguf.path),
            fix=f"use the model in Hugging Face's format; imported are: {', '.join(FAMILIES)}",
        )
    if not gguf.tensors:
        raise UserError("the GGUF file holds a vocabulary and no weights", str(gguf.path), "use the model's file")


class _Keys:
    """The architecture's metadata; collects problems."""

    def __init__(self, gguf: GgufFile) -> None:
        self._metadata, self._prefix = gguf.metadata, gguf.architecture
        self.problems: list[str] = []

    def get(self, name: str, default: Any = None) -> Any:
        value = self._metadata.get(f"{self._prefix}.{name}", default)
        if isinstance(value, float):
            value = float(str(np.float32(value)))  # 1e-06 instead of 9.999999974752427e-07
        return value

    def whole(self, name: str, default: int | None = None) -> int:
        """A positive whole number. An array, one number per layer, must repeat one number."""
        value = self.get(name, default)
        numbers = set(np.ravel(value).tolist()) if value is not None else set()
        if len(numbers) > 1:
            self.problems.append(f"{self._prefix}.{name} differs between layers")
        if value is None:
            self.problems.append(f"{self._prefix}.{name} is missing")
            return 1
        first = next(iter(numbers), 0)
        if not isinstance(first, int) or first < 1:
            self.problems.append(f"{self._prefix}.{name} is {first!r}, not a positive whole number")
            return 1
        return first


def _common(gguf: GgufFile, keys: _Keys) -> dict[str, Any]:
    heads, width = keys.whole("attention.head_count"), keys.whole("embedding_length")
    embedding = gguf.tensors.get("token_embd.weight")
    if embedding is None:
        keys.problems.append("there is no token_embd.weight")
    if keys.get("expert_count"):
        keys.problems.append(f"it is a mixture of {keys.get('expert_count')} experts, which is not supported")
    head = keys.whole("attention.key_length", width // heads)
    if keys.get("attention.value_length", head) != head:
        keys.problems.append("keys and values have different lengths")
    if keys.get("rope.dimension_count", head) != head:
        keys.problems.append("RoPE rotates a part of each head only, which is not supported")
    theta = keys.get("rope.freq_base", 10000.0)
    scaling, problem = rope_scaling_of(gguf, theta, head)
    if problem:
        keys.problems.append(problem)
    ids = {name: gguf.metadata.get(f"tokenizer.ggml.{key}_token_id") for name, key in _IDS.items()}
    return {
        "vocab_size": embedding.shape[0] if embedding else 0,
        "hidden_size": width,
        "intermediate_size": keys.whole("feed_forward_length"),
        "num_hidden_layers": keys.whole("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": keys.whole("attention.head_count_kv", heads),
        "head_dim": head,
        "rms_norm_eps": keys.get("attention.layer_norm_rms_epsilon", 1e-6),
        "max_position_embeddings": keys.whole("context_length"),
        "tie_word_embeddings": "output.weight" not in gguf.tensors,
        "rope_theta": theta,
        "rope_scaling": scaling,
        **{name: int(number) for name, number in ids.items() if number is not None},
    }


_IDS = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}


def _llama(gguf: GgufFile, keys: _Keys, config: dict[str, Any]) -> list[str]:
    window = keys.get("attention.sliding_window")
    named = f"{gguf.metadata.get('general.name', '')} {gguf.metadata.get('general.basename', '')}".lower()
    biases = {"attention_bias": "blk.0.attn_q.bias", "mlp_bias": "blk.0.ffn_gate.bias"}
    config |= {key: name in gguf.tensors for key, name in biases.items()}
    if not window and "mistral" not in named:
        config |= {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_act": "silu"}
        return []
    config |= {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "hidden_act": "silu"}
    config["sliding_window"] = window or None
    if config["attention_bias"] or config["mlp_bias"]:
        config["model_type"], config["architectures"] = "llama", ["LlamaForCausalLM"]
    if window:
        return []
    return [
        "The file does not say whether the model has a sliding window: Mistral 7B v0.1 has one of 4,096 tokens, and is "
        "wrong beyond them; later ones have none."
    ]


def _qwen2(gguf: GgufFile, keys: _Keys, config: dict[str, Any]) -> list[str]:
    config |= {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "hidden_act": "silu"}
    config["use_sliding_window"] = False
    return []


def _qwen3(gguf: GgufFile, keys: _Keys, config: dict[str, Any]) -> list[str]:
    config |= {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "hidden_act": "silu"}
    config |= {"use_sliding_window": False, "attention_bias": "blk.0.attn_q.bias" in gguf.tensors}
    return []


def _gemma2(gguf: GgufFile, keys: _Keys, config: dict[str, Any]) -> list[str]:
    config |= {
        "model_type": "gemma2",
        "architectures": ["Gemma2ForCausalLM"],
        "sliding_window": keys.whole("attention.sliding_window", 4096),
        "attn_logit_softcapping": keys.get("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": keys.get("final_logit_softcapping", 30.0),
        **_gemma(keys, config, layers_of_27b=46),
    }
    return []


def _gemma3(gguf: GgufFile, keys: _Keys, config: dict[str, Any]) -> list[str]:
    pattern = keys.get("attention.sliding_window_pattern", 6)
    layers = range(config["num_hidden_layers"])
    if isinstance(pattern, int):
        local = [(number + 1) % pattern != 0 for number in layers]
        config["sliding_window_pattern"] = pattern
    else:
        local = [bool(flag) for flag in pattern]
    config |= {
        "model_type": "gemma3_text",
        "architectures": ["Gemma3ForCausalLM"],
        "sliding_window": keys.whole("attention.sliding_window"),
        "layer_types": ["sliding_attention" if flag else "full_attention" for flag in local],
        "rope_local_base_freq": keys.get("rope.freq_base_swa", 10000.0),
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "use_bidirectional_attention": False,
        **_gemma(keys, config, layers_of_27b=62),
    }
    return []


def _gemma(keys: _Keys, config: Mapping[str, Any], layers_of_27b: int) -> dict[str, Any]:
    """llama.cpp scales queries by 1/√D, but in the 27B models, known by their layers, by 1/√(d / H)."""
    large = config["num_hidden_layers"] == layers_of_27b
    scalar = config["hidden_size"] // config["num_attention_heads"] if large else config["head_dim"]
    return {
        "attention_bias": False,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_act": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": scalar,
    }


FAMILIES: Mapping[str, Callable[[GgufFile, _Keys, dict[str, Any]], list[str]]] = {
    "llama": _llama,
    "gemma2": _gemma2,
    "gemma3": _gemma3,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
}
"""By llama.cpp's architecture: completes a config, and returns notes on what the file does not say."""
