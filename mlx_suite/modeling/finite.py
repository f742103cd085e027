"""Check that model outputs are finite: float16 overflows in some models, and all later results are meaningless."""

from collections.abc import Iterable
from math import isfinite

from mlx_suite.runtime.errors import UserError


def check_finite(values: Iterable[float], what: str) -> None:
    """Raise UserError if a value is NaN or inf; `what` names the values."""
    if not all(map(isfinite, values)):
        raise UserError(
            f"the model's {what} contain NaN or inf",
            where="the model's output",
            fix="load the model in float32 or bfloat16: float16 overflows in some models",
        )
