"""Generation as programs: see `program` for what a row is made of and `engine` for how rows run."""

from mlx_suite.engine.counts import EngineStats
from mlx_suite.engine.engine import Engine
from mlx_suite.engine.program import (
    Choose,
    Chosen,
    Done,
    Given,
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

__all__ = [
    "Queries",
    "Choose",
    "Chosen",
    "EngineStats",
    "Done",
    "Engine",
    "Given",
    "Program",
    "Query",
    "Reply",
    "Request",
    "Rewind",
    "Sample",
    "Sampling",
    "Written",
]
