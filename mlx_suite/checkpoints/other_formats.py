"""Weights in formats that are not read, by name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlx_suite.checkpoints.safetensors_header import TensorHeader
from mlx_suite.runtime.errors import UserError

USE_ANOTHER = "use the model before this quantization, or a version of it in MLX's format or GGUF"

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


def unread_format(name: str, folder: Path) -> UserError:
    """The error for weights in a quantized format that is not read."""
    return UserError(
        f"the weights are quantized with {name}, in a layout that neither mlx-suite nor mlx-lm reads",
        where=str(folder),
        fix=USE_ANOTHER,
    )
