"""Save a model as a Hugging Face folder that transformers and mlx-lm load."""

import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.checkpoints.config_file import config_to_dict, write_config
from mlx_suite.checkpoints.load import build_model
from mlx_suite.checkpoints.quantization import quantized_layers, to_config
from mlx_suite.checkpoints.weight_writer import METADATA, SHARD_BYTES, shards_of, write_index
from mlx_suite.checkpoints.weights import (
    as_dtype,
    cast,
    differences,
    dtype_name,
    named_parameters,
    parameter_shapes,
    quantized_shapes,
)
from mlx_suite.modeling.config import OUR_TYPES, ModelConfig
from mlx_suite.runtime.errors import UserError, shortened
from mlx_suite.runtime.files import staged_folder
from mlx_suite.text.settings import LEGACY_TEMPLATE_FILE, TEMPLATE_FILE

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    TEMPLATE_FILE,
    LEGACY_TEMPLATE_FILE,
    "generation_config.json",
    "tag_questions.json",  # `data.questions`: what a tag model was trained to answer about a row
)
"""Files copied along with a checkpoint's weights and config."""

REPLACEABLE = (".safetensors", ".json", ".jinja", ".txt", ".model", ".tiktoken", ".md", ".gitattributes")
"""File name suffixes of a checkpoint; a folder with any other file is not overwritten."""


def save_model(
    folder: Path | str,
    model: nn.Module,
    config: ModelConfig | Mapping[str, Any] | None = None,
    *,
    dtype: mx.Dtype | str | None = None,
    max_shard_bytes: int = SHARD_BYTES,
    tokenizer_from: Path | str | None = None,
    chat_template: str | None = None,
) -> None:
    """Write `model` to `folder` atomically; an existing checkpoint is replaced.

    Args:
        config: The model's config; None: `model.config`. Keys of the original `config.json` are kept.
        dtype: Dtype of the floating-point weights on disk; None keeps each as it is. A checkpoint loaded on a CPU is
            float32 in memory, so pass bfloat16 to restore its size.
        max_shard_bytes: Maximum size of a weight file; larger models are split into shards with an index. A larger
            tensor is the only one in its file.
        tokenizer_from: Checkpoint folder to copy tokenizer, chat template and generation settings from.
        chat_template: Jinja source that replaces that folder's template.

    Raises UserError if the model's shape does not match `config` (for example, if adapters are not fused), if `folder`
    contains files that are not part of a checkpoint, and for a full or read-only disk.
    """
    folder = Path(folder)
    if config is None:
        config = getattr(model, "config", None)
    if config is None:
        raise UserError(what="the model has no config", fix="pass `config` to save_model")
    settings = config_to_dict(config) if isinstance(config, ModelConfig) else dict(config)
    _refuse_other_shape(model, settings, folder)
    refuse_other_folder(folder)

    weights = named_parameters(model)
    if dtype is not None:
        target = as_dtype(dtype)
        weights = {name: cast(array, target) for name, array in weights.items()}
    _describe_precision(settings, model, weights)
    with staged_folder(folder) as staged:
        write_config(staged, settings)
        _write_weights(staged, weights, max_shard_bytes)
        if tokenizer_from is not None:
            copy_tokenizer(Path(tokenizer_from), staged)
        if chat_template is not None:
            (staged / TEMPLATE_FILE).write_text(chat_template, encoding="utf-8")


def _refuse_other_shape(model: nn.Module, settings: Mapping[str, Any], where: Path) -> None:
    """Raise UserError for a model that could not be loaded back."""
    if settings.get("model_type") not in OUR_TYPES:
        return
    dense = parameter_shapes(build_model(ModelConfig.from_dict(settings)))
    problems = differences(quantized_shapes(dense, quantized_layers(model)), parameter_shapes(model))
    if problems:
        raise UserError(
            what="the model's shape does not match its config, so it was not saved",
            details=shortened(problems),
            where=str(where),
            fix="fuse adapters first, or pass the model's own config",
        )


def refuse_other_folder(folder: Path) -> None:
    """Raise UserError if `folder` contains anything but a checkpoint; an adapter is not a checkpoint."""
    if not folder.is_dir():
        return
    strange = sorted(
        path.name
        for path in folder.iterdir()
        if path.is_dir() or not path.name.endswith(REPLACEABLE) or path.name == "adapter_config.json"
    )
    if strange:
        raise UserError(
            what="the folder contains files that are not part of a checkpoint and would be lost: "
            + ", ".join(strange[:5] + ["…"] * (len(strange) > 5)),
            where=str(folder),
            fix="choose a new folder",
        )


def _describe_precision(settings: dict[str, Any], model: nn.Module, weights: Mapping[str, mx.array]) -> None:
    """Set dtype and quantization of a config to those of the weights."""
    sizes: Counter[mx.Dtype] = Counter()
    for array in weights.values():
        if mx.issubdtype(array.dtype, mx.floating):
            sizes[array.dtype] += array.size
    # transformers 4 reads `torch_dtype`, 5 `dtype`.
    settings["torch_dtype"] = settings["dtype"] = dtype_name(sizes.most_common(1)[0][0])
    for key in ("quantization", "quantization_config"):
        settings.pop(key, None)
        if layers := quantized_layers(model):
            settings[key] = to_config(layers)


def _write_weights(folder: Path, weights: dict[str, mx.array], max_shard_bytes: int) -> None:
    sizes = {name: array.nbytes for name, array in weights.items()}
    shards = shards_of(sizes, max_shard_bytes)
    for file, names in shards.items():
        mx.save_safetensors(str(folder / file), {name: weights[name] for name in names}, metadata=METADATA)
    write_index(folder, shards, sum(sizes.values()))


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy `TOKENIZER_FILES` from a checkpoint. Raises UserError if it has no tokenizer."""
    found = [source / name for name in TOKENIZER_FILES if (source / name).is_file()]
    if not any(path.name in ("tokenizer.json", "tokenizer.model") for path in found):
        raise UserError(
            what="no tokenizer to copy: neither tokenizer.json nor tokenizer.model",
            where=str(source),
            fix="give the checkpoint folder of the original model",
        )
    for path in found:
        shutil.copyfile(path, folder / path.name)
