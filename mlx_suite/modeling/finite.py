"""Check that model outputs are finite: float16 overflows in some models, which makes all later results meaningless."""

from collections.abc import Iterable
from math import isfinite

from mlx_suite.runtime.errors import UserError


def check_finite(values: Iterable[float], what: str) -> None:
    """Raises UserError where a value is NaN or infinite; `what` says what they are."""
    if not all(map(isfinite, values)):
        raise UserError(
            f"the model gives {what} that are no numbers",
            where="the model's output",
            fix="load the model in float32 or bfloat16: float16 overflows in some models",
        )
