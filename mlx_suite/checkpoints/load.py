"""Load a model from its folder: our implementations of several families, and mlx-lm's for the rest."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.checkpoints.config_file import NAME, read_config
from mlx_suite.checkpoints.other_formats import foreign_packing, format_name, unread_format
from mlx_suite.checkpoints.safetensors_header import read_headers
from mlx_suite.checkpoints.stored_weights import corrections
from mlx_suite.checkpoints.weights import DTYPES, as_dtype, evaluate, load_weights, named_parameters, refuse_not_finite
from mlx_suite.modeling.config import OUR_TYPES, ModelConfig
from mlx_suite.modeling.decoder import Decoder
from mlx_suite.modeling.gemma2 import Gemma2
from mlx_suite.modeling.gemma3 import Gemma3
from mlx_suite.modeling.llama import Llama
from mlx_suite.modeling.qwen3 import Qwen3
from mlx_suite.modeling.reward_model import RewardModel
from mlx_suite.runtime.device import device, weights_dtype
from mlx_suite.runtime.errors import UserError, shortened
from mlx_suite.runtime.files import json_if_any

REWARD_SUFFIX = "ForSequenceClassification"
CLASSES: Mapping[str, Callable[[ModelConfig], Decoder]] = {
    "llama": Llama,
    "mistral": Llama,
    "gemma2": Gemma2,
    "gemma3_text": Gemma3,
    "gemma3": Gemma3,
    "qwen3": Qwen3,
}


def build_model(config: ModelConfig) -> Decoder:
    """A model of the given shape with random weights, not evaluated yet."""
    return CLASSES[config.model_type](config)


def load_model(
    folder: Path | str,
    *,
    dtype: mx.Dtype | str | None = None,
    dequantize: bool | None = None,
    lazy: bool = False,
) -> nn.Module:
    """Load a Hugging Face or MLX checkpoint: tokens (B, L) → logits (B, L, V).

    Llama, Mistral, Gemma 2 and 3 and Qwen 3 are ours and carry their `config`; of a multimodal Gemma 3 the text part is
    loaded. Any other `model_type` is loaded by mlx-lm.

    Args:
        dtype: Dtype of dense weights and quantization scales. None: float32 on a CPU, else the checkpoint's own (except
            bfloat16 for a float16 Gemma).
        dequantize: Whether to dequantize quantized layers. None: yes on a CPU, else no.
        lazy: Leave the weights on disk until they are used.

    Raises UserError for a missing or invalid config, an unsupported architecture, and weights that are missing,
    truncated or do not match the config.
    """
    folder = Path(folder)
    config = read_config(folder)
    if is_ours(config):
        ours = build_model(ModelConfig.from_dict(config, where=str(folder / NAME)))
        load_weights(folder, ours, dtype=dtype, dequantize=dequantize, lazy=lazy)
        return ours
    model = _load_by_mlx_lm(folder, config)
    _apply_precision(model, dtype, dequantize)
    if not lazy:
        evaluate(named_parameters(model).values())
        refuse_not_finite(named_parameters(model), folder)
    return model


def stored_dtype(folder: Path | str) -> mx.Dtype | None:
    """The dtype of a checkpoint's dense weights from its config; None if not stated."""
    config = read_config(Path(folder))
    name = str(config.get("dtype") or config.get("torch_dtype")).rpartition(".")[2]
    return DTYPES.get(name)


def get_model_classes(config: dict[str, Any]) -> tuple[Callable[..., nn.Module], type]:
    """Model classes for mlx-lm's loader: `mlx_lm.utils.load_model(path, get_model_classes=get_model_classes)`.

    Ours for the families that we implement, mlx-lm's for the rest; the precision is mlx-lm's choice.
    """
    if config.get("model_type") in OUR_TYPES:
        return CLASSES[config["model_type"]], ModelConfig
    from mlx_lm.utils import _get_classes

    found: tuple[type[nn.Module], type] = _get_classes(config)
    return found


def load_reward_model(
    folder: Path | str, *, dtype: mx.Dtype | str | None = None, dequantize: bool | None = None
) -> RewardModel:
    """Load a reward model: one of our architectures with `ForSequenceClassification` and a single score.

    Precision and quantized layers are handled as by `load_model`. Raises UserError for any other checkpoint, and for
    weights that are missing, damaged or of the wrong shape.
    """
    folder = Path(folder)
    config = read_config(folder)
    _check_reward_architecture(folder, config)
    model = RewardModel(ModelConfig.from_dict(config, where=str(folder / NAME)))
    load_weights(folder, model, dtype=dtype, dequantize=dequantize)
    return model


def is_ours(config: Mapping[str, Any]) -> bool:
    """Whether a checkpoint with this config is loaded by our implementation, not by mlx-lm."""
    return config["model_type"] in OUR_TYPES and foreign_packing(config) is None


def _load_by_mlx_lm(folder: Path, config: Mapping[str, Any]) -> nn.Module:
    tensors = read_headers(folder)  # clearer errors for missing and truncated files
    if config["model_type"] in OUR_TYPES:
        ModelConfig.from_dict(config, where=str(folder / NAME))
    from mlx_lm.utils import load_model as load_other

    try:
        changes = corrections(json_if_any(folder / NAME), folder)
        model, _ = load_other(folder, lazy=True, model_config=changes, get_model_classes=get_model_classes)
    except Exception as error:  # another library, which meets files that nobody checked
        if packing := format_name(config, tensors):
            raise unread_format(packing, folder) from error
        model_type = config["model_type"]
        if str(error) == f"Model type {model_type} not supported.":
            what = f"neither mlx-suite nor mlx-lm supports the architecture {model_type!r}"
            fix = "choose a model of another architecture, or update mlx-lm (pip install -U mlx-lm)"
            raise UserError(what=what, where=str(folder / NAME), fix=fix) from error
        first, *rest = str(error).splitlines() or [type(error).__name__]
        raise UserError(
            what=f"mlx-lm, which loads {model_type!r} models, cannot load this one: {first}",
            details=shortened(rest),
            where=str(folder),
            fix="use a complete checkpoint in a format that mlx-lm reads",
        ) from error
    loaded: nn.Module = model
    return loaded


def _apply_precision(model: nn.Module, dtype: mx.Dtype | str | None, dequantize: bool | None) -> None:
    """Apply the precision policy of `weights.load_weights` to a model loaded by mlx-lm."""
    from mlx_lm.utils import dequantize_model

    policy = weights_dtype(device().kind, "own", quantized=True)
    if policy.dequantize if dequantize is None else dequantize:
        dequantize_model(model)
    if dtype is not None or policy.dtype in DTYPES:
        model.set_dtype(as_dtype(dtype if dtype is not None else policy.dtype))


def _check_reward_architecture(folder: Path, config: dict[str, Any]) -> None:
    named = config.get("architectures")
    architectures = [str(name) for name in named] if isinstance(named, list) else []
    problem = None
    if not any(name.endswith(REWARD_SUFFIX) for name in architectures):
        problem = f"its architecture is {', '.join(architectures) or 'not named'}, not …{REWARD_SUFFIX}"
    elif config["model_type"] not in OUR_TYPES:
        problem = f"its model_type is {config['model_type']!r}, not one of {', '.join(OUR_TYPES)}"
    else:
        score = read_headers(folder).get("score.weight")
        if score is not None and score.shape[0] != 1:
            problem = f"it gives {score.shape[0]} scores per text instead of one"
    if problem:
        raise UserError(
            f"not a supported reward model: {problem}",
            where=str(folder / NAME),
            fix="use a model of one of these types with a single score, such as sfairXC/FsfairX-LLaMA3-RM-v0.1",
        )
