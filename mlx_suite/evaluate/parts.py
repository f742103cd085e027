"""The part of a dataset that a model is measured on."""

from pathlib import Path

from mlx_suite.data.dataset import Dataset
from mlx_suite.data.example import Example
from mlx_suite.runtime.errors import UserError

PARTS = ("test", "valid", "train")
"""The first that has rows is taken. Rows that were trained on say little about a model."""


def chosen_part(dataset: Dataset, part: str | None, source: str | Path) -> tuple[str, tuple[Example, ...]]:
    """The name and the examples of `part`, or of the first of PARTS that has any.

    Raises UserError where it is empty.
    """
    held = {"test": dataset.test, "valid": dataset.valid, "train": dataset.train}
    name = part or next((name for name in PARTS if held[name]), "train")
    if not held[name]:
        there = ", ".join(name for name in PARTS if held[name])
        raise UserError(f"The dataset has no part {name}", where=str(source), fix=f"use --part with one of: {there}")
    return name, held[name]
