"""Llama 3 and Gemma 2 on MLX: generate, Magpie, finetune, pretrain.

Importing the package loads a fast BLAS (Linux), which only works before MLX itself is imported.
"""

import logging
from typing import TYPE_CHECKING, Any

from .runtime.blas import load_blas

if TYPE_CHECKING:
    from .loading import load as load

__version__ = "0.1.0"

if (_advice := load_blas().advice) is not None:
    # Without any logging set up Python prints warnings as bare lines on stderr: one line, easily
    # silenced.
    logging.getLogger(__name__).warning(_advice)


def __getattr__(name: str) -> Any:
    """`mlx_suite.load`, imported when it is first asked for: it brings MLX and the hub's client with it."""
    if name == "load":
        from .loading import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
