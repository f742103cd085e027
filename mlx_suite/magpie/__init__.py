"""Magpie: instruction data that an aligned model writes by itself (arXiv 2406.08464).

Given nothing but its chat template up to the place where a user would begin to type, such a model writes a user's
instruction; then it answers. `make_dataset` fills a folder with such rows.
"""

import importlib
from typing import TYPE_CHECKING, Any

from mlx_suite.magpie.settings import MagpieSettings

if TYPE_CHECKING:
    from mlx_suite.magpie.run import make_dataset, replay_row
    from mlx_suite.magpie.summary import Summary, Truth

__all__ = ["MagpieSettings", "Summary", "Truth", "make_dataset", "replay_row"]

_HOMES = {"make_dataset": "run", "replay_row": "run", "Summary": "summary", "Truth": "summary"}


def __getattr__(name: str) -> Any:
    """What brings MLX is imported when it is first asked for: the settings alone make the command line's help."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
