"""The model of a run: new, from the size dial or a config, or loaded from a checkpoint for continual pretraining."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map

from mlx_suite.checkpoints.config_file import read_config
from mlx_suite.checkpoints.load import build_model, load_model, stored_dtype
from mlx_suite.checkpoints.weights import DTYPES
from mlx_suite.hub.resolve import resolve
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.pretrain.settings import PretrainSettings
from mlx_suite.pretrain.size import shape_of_size
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import Tokenizer
from mlx_suite.training.recompute import recompute

DEFAULT_CONTEXT = 2048
"""`max_position_embeddings` of a config that does not state it."""

VOCABULARY = ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")
"""Keys of a config that belong to the tokenizer; those of a config.json that only lends its shape are left out."""


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """What is trained, before any weights are made or loaded."""

    config: ModelConfig
    folder: Path | None
    """Folder of the checkpoint; None for a new model."""

    @property
    def is_new(self) -> bool:
        return self.folder is None


def base_folder(settings: PretrainSettings) -> Path | None:
    """Folder of the checkpoint to train further; None for a new model. Downloads it if needed."""
    return None if settings.checkpoint is None else resolve(settings.checkpoint)


def model_source(settings: PretrainSettings, folder: Path | None, tokenizer: Tokenizer) -> ModelSource:
    """The shape of the model. Raises UserError for an invalid config, or a vocabulary smaller than the tokenizer's."""
    if folder is not None:
        where = str(folder / "config.json")
        config = ModelConfig.from_dict(read_config(folder), where)
    else:
        shape, where = _new_shape(settings)
        if settings.length is not None and settings.size is not None:
            shape = {**shape, "max_position_embeddings": settings.length}
        config = ModelConfig.from_dict({**_token_ids(tokenizer), **shape}, where)
    if config.vocab_size < tokenizer.vocab_size:
        raise UserError(
            f"The model has {config.vocab_size:,} embedding rows, but the tokenizer {tokenizer.vocab_size:,} ids",
            where=where,
            fix="leave vocab_size out, or use another tokenizer",
        )
    return ModelSource(config=config, folder=folder)


def make_model(settings: PretrainSettings, source: ModelSource, dtype: str) -> nn.Module:
    """The model in `dtype`, with all parameters trained: loaded, or with initial weights from the seed."""
    if source.folder is not None:
        model: Any = load_model(source.folder, dtype=dtype, dequantize=True)
    else:
        mx.random.seed(settings.seed)
        model = build_model(source.config)
        model.update(tree_map(lambda array: array.astype(DTYPES[dtype]), model.parameters()))
    mx.eval(model.parameters())
    if settings.recompute:
        recompute(model.layers)
    loaded: nn.Module = model
    return loaded


def saved_dtype(source: ModelSource) -> mx.Dtype | None:
    """Dtype of saved weights: the checkpoint's own, or as trained for a new model."""
    return None if source.folder is None else stored_dtype(source.folder)


def _new_shape(settings: PretrainSettings) -> tuple[Mapping[str, Any], str]:
    """Keys of the config.json of a new model, and where they were set."""
    if settings.size is not None:
        return shape_of_size(settings.size), f"size {settings.size}"
    if isinstance(settings.config, str):
        path = Path(settings.config).expanduser()
        folder = path.parent if path.name == "config.json" else path
        found = read_config(folder)
        return {key: value for key, value in found.items() if key not in VOCABULARY}, str(folder / "config.json")
    assert settings.config is not None
    return {"model_type": "llama", "rms_norm_eps": 1e-5, "max_position_embeddings": DEFAULT_CONTEXT} | dict(
        settings.config
    ), "config"


def _token_ids(tokenizer: Tokenizer) -> dict[str, Any]:
    """Vocabulary size and special ids of the tokenizer, which the mapping of a config may override."""
    stops = sorted(tokenizer.stop_ids)
    ids = (tokenizer.vocab_size, tokenizer.bos_id, stops[0] if len(stops) == 1 else stops, tokenizer.pad_id)
    return dict(zip(VOCABULARY, ids, strict=True))
