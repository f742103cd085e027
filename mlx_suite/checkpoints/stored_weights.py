"""What the stored weights say where `config.json` says otherwise, as transformers 5 and vLLM decide it.

A config may call the head tied to the embedding though the file has another head, trained on its own; and a
`quantization_config` may be left behind by a tool that expanded the weights.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_suite.checkpoints.safetensors_header import TensorHeader, read_headers
from mlx_suite.checkpoints.weights import load_file
from mlx_suite.modeling.text_part import text_weights
from mlx_suite.runtime.errors import UserError, warn_once

QUANTIZATION_KEYS = ("quantization", "quantization_config")
PLAIN = ("BF16", "F16", "F32")
"""Dtypes of weights that are not quantized."""

_EMBEDDING, _HEAD = "model.embed_tokens.", "lm_head."


def is_tied(config: Mapping[str, Any]) -> bool:
    """Whether a config says that the head is the embedding. Gemma's published configs omit the key; theirs is."""
    return bool(config.get("tie_word_embeddings", str(config.get("model_type")).startswith("gemma")))


def as_stored(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The config, corrected by the weights in `folder`; unchanged if these cannot be read."""
    changes = corrections(config, folder)
    return {key: value for key, value in {**config, **changes}.items() if key not in changes or value is not None}


def corrections(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Keys of a config that the weights in `folder` contradict, with their right values; None for a key to drop."""
    left_behind = [key for key in QUANTIZATION_KEYS if config.get(key) is not None]
    if not left_behind and not is_tied(config):
        return {}
    try:
        tensors = text_weights(read_headers(folder))
    except UserError:
        return {}  # the loader reports it
    changes: dict[str, Any] = {}
    if left_behind and all(header.dtype in PLAIN for header in tensors.values()):
        warn_once(f"{folder}: the weights are not quantized, so {' and '.join(left_behind)} of config.json is ignored")
        changes |= dict.fromkeys(left_behind)
    if is_tied(config) and _has_own_head(tensors):
        warn_once(
            f"{folder}: the weights have a head that differs from the embedding; it is used, "
            "although tie_word_embeddings of config.json says that they are the same"
        )
        changes["tie_word_embeddings"] = False
    return changes


def _has_own_head(tensors: Mapping[str, TensorHeader]) -> bool:
    """Whether both an embedding and a head are stored, and differ."""
    parts = [
        {name.removeprefix(prefix): header for name, header in tensors.items() if name.startswith(prefix)}
        for prefix in (_EMBEDDING, _HEAD)
    ]
    embedding, head = parts
    if "weight" not in embedding or "weight" not in head:
        return False
    return embedding.keys() != head.keys() or any(
        not _are_equal(
            *((each.file, each.file.stat().st_mtime_ns, each.name) for each in (embedding[part], head[part]))
        )
        for part in embedding
    )


@lru_cache(maxsize=64)
def _are_equal(one: tuple[Path, int, str], other: tuple[Path, int, str]) -> bool:
    """Whether two tensors hold the same values, each given as (file, its time of change, name)."""
    first, second = (load_file(file)[name] for file, _, name in (one, other))
    if first.shape != second.shape:
        return False
    return bool(mx.array_equal(first, second, equal_nan=True).item())
