"""Whether a text that a model wrote is whole."""

from collections.abc import Collection
from typing import Literal

from mlx_suite.engine import Written

Flaw = Literal["limit", "context", "stop", "empty", "garbled"]
GARBLED = "\ufffd"
"""What a decoder writes in place of bytes that are no character."""


def flaw_of(written: Written, text: str, ends: Collection[int]) -> Flaw | None:
    """What is wrong with a text as a whole; None where nothing is.

    Args:
        written: What became of the sampling.
        text: What its tokens say, without whitespace around it.
        ends: Stop tokens that end such a text in good order.
    """
    if written.reason != "stop":
        return written.reason
    if written.stop_token not in ends:
        return "stop"
    if not text:
        return "empty"
    return "garbled" if GARBLED in text else None
