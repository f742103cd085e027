"""Import of MLX, with an error that says how to install a missing backend.

On Linux, `pip install mlx` installs the Python bindings without a backend; importing them fails with a message about
`libmlx.so` that suggests no fix.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from .errors import UserError


def import_mlx() -> ModuleType:
    """Import `mlx.core`. Raises UserError if MLX is not installed or has no backend for this machine."""
    try:
        return importlib.import_module("mlx.core")
    except ImportError as error:
        explained = explain_import_error(error)
        if explained is None:
            raise
        raise explained from error


def explain_import_error(error: ImportError) -> UserError | None:
    """The UserError for a failed import of MLX; None if something else failed to import."""
    if "libmlx" in str(error):
        return UserError(
            "MLX is installed without a backend",
            where=f"{sys.executable}: {error}",
            fix='pip install "mlx-suite[cpu]", or "mlx-suite[cuda]" with an NVIDIA GPU',
        )
    if error.name in {"mlx", "mlx.core"}:
        return UserError(
            "MLX is not installed",
            where=sys.executable,
            fix='pip install "mlx-suite[cpu]", or "mlx-suite[cuda]" with an NVIDIA GPU',
        )
    return None
