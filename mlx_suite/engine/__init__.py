"""Generation as programs: `program` defines the segments of a row, `engine` runs rows."""

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
