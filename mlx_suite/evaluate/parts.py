"""Choice of the dataset part to evaluate on."""

from pathlib import Path

from mlx_suite.data.dataset import Dataset
from mlx_suite.data.example import Example
from mlx_suite.runtime.errors import UserError

PARTS = ("test", "valid", "train")
"""Parts in order of preference. Training rows say little about a model."""


def chosen_part(dataset: Dataset, part: str | None, source: str | Path) -> tuple[str, tuple[Example, ...]]:
    """Name and examples of `part`, by default the first of PARTS with any rows.

    Raises UserError if it is empty.
    """
    held = {"test": dataset.test, "valid": dataset.valid, "train": dataset.train}
    name = part or next((name for name in PARTS if held[name]), "train")
    if not held[name]:
        there = ", ".join(name for name in PARTS if held[name])
        raise UserError(f"The dataset has no {name} part", where=str(source), fix=f"use --part with one of: {there}")
    return name, held[name]
