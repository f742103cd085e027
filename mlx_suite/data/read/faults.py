"""Texts of a row, and what is wrong with them."""

from typing import Any

from mlx_suite.data.read.record import described

Faults = list[str]
"""What is wrong with one row; readers add to it and go on, so that all of it is said at once."""

NOTHING = ("None", "null", "nan", "NaN")
"""What programs write into a table where they had no answer."""


def required_text(value: Any, label: str, faults: Faults) -> str:
    """`value` if it is text that says something; otherwise a fault, and an empty text."""
    if not isinstance(value, str):
        faults.append(f"{label} is {described(value)}; expected text")
        return ""
    if not value.strip():
        faults.append(f"{label} is empty; expected text")
    if not value.isascii():
        _refuse_half_characters(value, label, faults)
    return value


def answer_text(value: Any, label: str, faults: Faults) -> str:
    """A text to be learned."""
    if isinstance(value, str) and value.strip() in NOTHING:
        faults.append(f"{label} is the word {value.strip()}, as programs write it for nothing; expected an answer")
        return ""
    return required_text(value, label, faults)


def optional_text(value: Any, label: str, faults: Faults) -> str:
    """Empty for null and for a text that says nothing."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return ""
    return required_text(value, label, faults)


def _refuse_half_characters(value: str, label: str, faults: Faults) -> None:
    """JSON can hold half of a surrogate pair, which no tokenizer can encode."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        faults.append(f"{label} holds half of a character, {ascii(value[error.start])}; expected whole ones")
