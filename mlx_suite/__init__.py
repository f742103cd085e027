"""Llama 3, Gemma 2 and 3 and Qwen 3 on MLX: generate, Magpie, finetune, pretrain.

Importing the package loads a fast BLAS on Linux, which works only before MLX is imported.
"""

import logging
from typing import TYPE_CHECKING, Any

from .runtime.blas import load_blas

if TYPE_CHECKING:
    from .loading import load as load

__version__ = "0.1.0"

if (_advice := load_blas().advice) is not None:
    # Without logging configured, Python prints a warning as one plain line on stderr.
    logging.getLogger(__name__).warning(_advice)


def __getattr__(name: str) -> Any:
    """Import `mlx_suite.load` on first use: it imports MLX and the hub client."""
    if name == "load":
        from .loading import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
