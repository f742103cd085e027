"""Bounds checks of indices, off unless the environment variable MLX_SUITE_DEBUG is set.

MLX gathers and scatters past the end of an array without an error: it reads other memory, or damages it. Ids are
checked once, where they enter (`text.load_tokenizer`); these assertions find what slips past.
"""

import os
from collections.abc import Iterable

import numpy as np

VARIABLE = "MLX_SUITE_DEBUG"
enabled = os.environ.get(VARIABLE, "0") not in ("", "0")
"""Whether indices are checked. The engine's tests turn it on."""


def check_indices(indices: Iterable[int], size: int, what: str) -> None:
    """Assert that every index lies in [0, size); nothing unless checks are enabled."""
    if not enabled:
        return
    values = np.asarray(indices if isinstance(indices, np.ndarray) else list(indices))
    wrong = values[(values < 0) | (values >= size)]
    assert not wrong.size, f"{what} {wrong.flat[0]} is outside [0, {size})"
