"""Generation as programs: see `program` for what a row is made of and `engine` for how rows run."""

from mlx_suite.engine.counts import Counts
from mlx_suite.engine.engine import Engine
from mlx_suite.engine.program import (
    Aside,
    Choose,
    Chosen,
    Done,
    Given,
    Program,
    Query,
    Reply,
    Request,
    Rewind,
    Sample,
    Sampling,
    Written,
)

__all__ = [
    "Aside",
    "Choose",
    "Chosen",
    "Counts",
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
