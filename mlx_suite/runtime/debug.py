"""Bounds checks of indices, enabled by the environment variable MLX_SUITE_DEBUG.

MLX does not check bounds: a gather past the end of an array reads other memory, and a scatter corrupts it. Token ids
are validated once, in `text.load_tokenizer`; these assertions catch the rest.
"""

import os
from collections.abc import Iterable

import numpy as np

VARIABLE = "MLX_SUITE_DEBUG"
enabled = os.environ.get(VARIABLE, "0") not in ("", "0")
"""Whether indices are checked; the engine's tests turn this on."""


def check_indices(indices: Iterable[int], size: int, what: str) -> None:
    """Assert that every index lies in [0, size); a no-op unless checks are enabled."""
    if not enabled:
        return
    values = np.asarray(indices if isinstance(indices, np.ndarray) else list(indices))
    wrong = values[(values < 0) | (values >= size)]
    assert not wrong.size, f"{what} {wrong.flat[0]} is outside [0, {size})"
