"""Checkpoints in formats that are not read, by name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlx_suite.checkpoints.safetensors_header import TensorHeader
from mlx_suite.runtime.errors import UserError

USE_ANOTHER = "use the model before this quantization, or a version of it in MLX's format or GGUF"

ORIGINAL_CONFIG = "params.json"
"""Config of checkpoints in Meta's and Mistral's own format, whose weights have other names."""
UNREAD = "the weights are quantized with {}, in a layout that neither mlx-suite nor mlx-lm reads"

_METHODS = {
    "gptq": "GPTQ",
    "awq": "AWQ",
    "bitsandbytes": "bitsandbytes",
    "bitnet": "BitNet",
    "fp8": "FP8",
    "fbgemm_fp8": "FP8",
    "compressed-tensors": "compressed-tensors",
    "mxfp4": "MXFP4",
    "hqq": "HQQ",
    "quanto": "Quanto",
    "torchao": "torchao",
    "aqlm": "AQLM",
    "eetq": "EETQ",
    "exl2": "EXL2",
}
_READ_BY_MLX_LM = ("GPTQ", "AWQ", "BitNet", "FP8", "compressed-tensors", "MXFP4")
"""Formats of which mlx-lm converts some layouts, if the config names them."""
_SUFFIXES = {
    ".absmax": "bitsandbytes",
    ".quant_map": "bitsandbytes",
    ".SCB": "bitsandbytes",
    ".qweight": "GPTQ or AWQ",
    ".weight_packed": "compressed-tensors",
    "_blocks": "MXFP4",
}


def foreign_packing(config: Mapping[str, Any]) -> str | None:
    """The weights' quantized format if it is not MLX's (gptq, awq, …; mlx-lm converts several); else None."""
    settings = config.get("quantization_config")
    if "quantization" in config or not isinstance(settings, Mapping) or "quant_method" not in settings:
        return None
    return str(settings["quant_method"])


def format_name(config: Mapping[str, Any], tensors: Mapping[str, TensorHeader]) -> str | None:
    """Name of the quantized format of weights that are not MLX's, from the config or the tensors; None if unknown."""
    if method := foreign_packing(config):
        return _METHODS.get(method, method)
    for name in tensors:
        for suffix, found in _SUFFIXES.items():
            if name.endswith(suffix):
                return found
    return "FP8" if any(header.dtype.startswith("F8") for header in tensors.values()) else None


def unread(config: Mapping[str, Any], tensors: Mapping[str, TensorHeader]) -> str | None:
    """Name of the quantized format of weights that nothing here reads, in any of its layouts; else None."""
    name = format_name(config, tensors)
    return None if name is None or (foreign_packing(config) and name in _READ_BY_MLX_LM) else name


def unread_format(name: str, folder: Path) -> UserError:
    """The error for weights in a quantized format that is not read."""
    return UserError(
        UNREAD.format(name),
        where=str(folder),
        fix=USE_ANOTHER,
    )


def original_format(folder: Path) -> UserError:
    """The error for a folder with Meta's or Mistral's own files instead of Hugging Face's."""
    return UserError(
        f"the folder contains a model in Meta's or Mistral's own format ({ORIGINAL_CONFIG}), and no config.json",
        where=str(folder),
        fix="use the same model in Hugging Face's format: config.json and model*.safetensors",
    )
