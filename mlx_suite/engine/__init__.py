"""Generation as programs: see `program` for what a row is made of and `engine` for how rows run."""

from mlx_suite.engine.engine import Counts, Engine
from mlx_suite.engine.program import (
    Choose,
    Chosen,
    Done,
    Given,
    Program,
    Request,
    Sample,
    Sampling,
    Written,
)

__all__ = [
    "Choose",
    "Chosen",
    "Counts",
    "Done",
    "Engine",
    "Given",
    "Program",
    "Request",
    "Sample",
    "Sampling",
    "Written",
]
