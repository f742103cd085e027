"""Generation as programs: `program` defines the segments of a row, `engine` runs rows.

Names are imported on first use: `response_sampling`, which flags are made from, needs no MLX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlx_suite.engine.engine import Engine, context_length
    from mlx_suite.engine.program import (
        Cancelled,
        Done,
        Given,
        Mark,
        Program,
        Queries,
        Query,
        Reply,
        Request,
        Rewind,
        Sample,
        Sampling,
        TokenScore,
        Written,
    )
    from mlx_suite.engine.speculation import DraftModel, PromptLookup, Speculation
    from mlx_suite.engine.stats import EngineStats

__all__ = [
    "Cancelled",
    "Done",
    "DraftModel",
    "Engine",
    "EngineStats",
    "Given",
    "Mark",
    "Program",
    "PromptLookup",
    "Queries",
    "Query",
    "Reply",
    "Request",
    "Rewind",
    "Sample",
    "Sampling",
    "Speculation",
    "TokenScore",
    "Written",
    "context_length",
]

_ELSEWHERE = {
    "Engine": "engine",
    "context_length": "engine",
    "EngineStats": "stats",
    "DraftModel": "speculation",
    "PromptLookup": "speculation",
    "Speculation": "speculation",
}
"""Modules of the names that are not in `program`."""


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(f"{__name__}.{_ELSEWHERE.get(name, 'program')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
