"""Generation as programs: `program` defines the segments of a row, `engine` runs rows."""

from mlx_suite.engine.engine import Engine, context_length
from mlx_suite.engine.program import (
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
    Written,
)
from mlx_suite.engine.stats import EngineStats

__all__ = [
    "Done",
    "Engine",
    "EngineStats",
    "Given",
    "Mark",
    "Program",
    "Queries",
    "Query",
    "Reply",
    "Request",
    "Rewind",
    "Sample",
    "Sampling",
    "Written",
    "context_length",
]
