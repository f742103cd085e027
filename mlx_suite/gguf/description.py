"""Describe the model in a GGUF file from its header, as `checkpoints.description` describes a checkpoint folder."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from mlx_suite.checkpoints.description import ModelDescription, StopToken, describe_config
from mlx_suite.gguf.file import GgufFile
from mlx_suite.gguf.model_config import config_of
from mlx_suite.runtime.errors import UserError

DENSE = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}

_STOPS = ("eos", "eot")


def describe_gguf(gguf: GgufFile) -> ModelDescription:
    """Describe the model in a file; an architecture that cannot be imported is described as far as its keys go."""
    try:
        config, _ = config_of(gguf)
    except UserError:
        config = _other_config(gguf)
    types = types_by_size(gguf)
    main = next(iter(types), "F32")
    return describe_config(
        config,
        path=gguf.path,
        dtype=DENSE.get(main, "bfloat16"),
        quantization=None if main in DENSE else ", ".join(name for name in types if name not in DENSE),
        parameters=sum(tensor.size for tensor in gguf.tensors.values()),
        size_bytes=sum(part.stat().st_size for part in gguf.parts),
        chat_template=bool(gguf.metadata.get("tokenizer.chat_template")),
        stop_tokens=_stop_tokens(gguf),
    )


def types_by_size(gguf: GgufFile) -> list[str]:
    """The types of the file's tensors, that of the most bytes first."""
    sizes: Counter[str] = Counter()
    for tensor in gguf.tensors.values():
        sizes[tensor.type] += tensor.nbytes
    return [name for name, _ in sizes.most_common()]


def _other_config(gguf: GgufFile) -> dict[str, Any]:
    """The keys that all architectures share, as a config."""
    prefix = gguf.architecture
    names = {
        "num_hidden_layers": "block_count",
        "hidden_size": "embedding_length",
        "num_attention_heads": "attention.head_count",
        "num_key_value_heads": "attention.head_count_kv",
        "head_dim": "attention.key_length",
        "max_position_embeddings": "context_length",
        "sliding_window": "attention.sliding_window",
    }
    found: Mapping[str, Any] = {name: gguf.metadata.get(f"{prefix}.{key}") for name, key in names.items()}
    config = {name: int(value) for name, value in found.items() if isinstance(value, int)}
    embedding = gguf.tensors.get("token_embd.weight")
    vocabulary = {"vocab_size": embedding.shape[0]} if embedding else {}
    return {"model_type": f"{prefix or 'unknown'} (GGUF)", **config, **vocabulary}


def _stop_tokens(gguf: GgufFile) -> tuple[StopToken, ...]:
    texts = gguf.metadata.get("tokenizer.ggml.tokens") or []
    ids = (gguf.metadata.get(f"tokenizer.ggml.{name}_token_id") for name in _STOPS)
    known = dict.fromkeys(int(number) for number in ids if number is not None)
    return tuple(StopToken(id=number, text=texts[number] if number < len(texts) else None) for number in known)
