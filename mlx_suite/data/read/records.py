"""Records of a data file, the problems found in them, and the checks that find them."""

import codecs
import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from mlx_suite.runtime.errors import UserError, shortened

EXCERPT = 24
"""Characters shown on either side of a mistake."""
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""Byte order marks of UTF-16, common in files saved on Windows."""
NULL_WORDS = ("None", "null", "NULL")
"""Spellings of a missing value that programs write into tables."""
PLACEHOLDERS = ("nan", "n/a", "#n/a", "<na>", "<noinput>", "<no input>", "<nooutput>", "<no output>")
"""Spellings of a missing value, in any case."""

Faults = list[str]
"""Everything wrong with one row. Readers append to it and continue, so that all faults are reported together."""


@dataclass(frozen=True)
class Record:
    """One row of a file, as written."""

    place: str
    """`file:line` of its first line; `file, row number` where rows have no line of their own; the file name for plain
    text."""
    value: dict[str, Any] | str
    """Names and values; a string for plain text."""


@dataclass(frozen=True)
class Problem:
    """A part of the data that cannot be trained on, and why."""

    place: str
    """`file:line`, `file, row number`, or the file name."""
    what: str
    """What is wrong and what was expected."""
    ends_reading: bool = False
    """Whether the rest of the file, or all of it, cannot be read: more than one row is lost."""
    by_design: bool = False
    """Whether the row itself says that it is not to be trained, so that nothing is wrong."""

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


Records = Iterator[Record | Problem]
"""The rows of a file in order, with a Problem instead of each unreadable row."""


def refusal(problems: Sequence[Problem], where: str, *, all_lost: bool = False) -> UserError:
    """One error for all problems. With `all_lost`, skipping the rows would leave nothing, so it is not suggested."""
    count = len(problems)
    what = "There is a problem with the data" if count == 1 else f"There are {count:,} problems with the data"
    it, rows = ("it", "this row") if count == 1 else ("them", "these rows")
    return UserError(
        what + (", and nothing is left to train on" if all_lost else ""),
        where=where,
        fix=f"fix {it}" + ("" if all_lost else f", or skip {rows} with --skip-bad"),
        details=shortened(problems),
    )


def record_of(value: Any, place: str) -> Record | Problem:
    """A Record if `value` is an object, else a Problem."""
    if isinstance(value, dict):
        return Record(place, value)
    return Problem(place, f'the record is {described(value)}; expected an object, {{"name": value, …}}')


def described(value: Any) -> str:
    """A JSON value in words, for "expected …, found …"."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return "text"
    if isinstance(value, list):
        return "a list"
    return "an object" if isinstance(value, dict) else f"a value of type {type(value).__name__}"


def required_text(value: Any, label: str, faults: Faults) -> str:
    """Return `value` if it is text that is not blank; otherwise append a fault (the result must not be used then)."""
    if not isinstance(value, str):
        faults.append(f"{label} is {described(value)}; expected text")
        return ""
    if not value.strip():
        faults.append(f"{label} is empty; expected text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            half = ascii(value[error.start])
            faults.append(f"{label} contains half of a surrogate pair, {half}, which no tokenizer can encode")
    return value


def is_placeholder(value: Any) -> bool:
    """Whether a value is text that stands for a missing one, such as `nan`, `N/A` or `<noinput>`."""
    if not isinstance(value, str):
        return False
    text = value.strip()
    return text in NULL_WORDS or text.casefold() in PLACEHOLDERS


def turn_text(value: Any, label: str, faults: Faults, expected: str) -> str:
    """`required_text` of an instruction or a response: spellings of a missing value are faults too."""
    if is_placeholder(value):
        faults.append(f"{label} is {value.strip()!r}, which programs write for a missing value; expected {expected}")
        return ""
    return required_text(value, label, faults)


def response_text(value: Any, label: str, faults: Faults) -> str:
    """`turn_text` of a response."""
    return turn_text(value, label, faults, "a response")


def instruction_text(value: Any, label: str, faults: Faults) -> str:
    """`turn_text` of an instruction."""
    return turn_text(value, label, faults, "an instruction")


def optional_text(value: Any, label: str, faults: Faults) -> str:
    """`required_text`, but empty for null, blank text and spellings of a missing value."""
    if value is None or is_placeholder(value) or (isinstance(value, str) and not value.strip()):
        return ""
    return required_text(value, label, faults)


def open_data(path: Path) -> BinaryIO:
    """The bytes of a file, decompressed if its name ends in .gz."""
    return cast(BinaryIO, gzip.open(path, "rb")) if path.name.lower().endswith(".gz") else path.open("rb")


def decoded_lines(path: Path, name: str) -> Iterator[tuple[int, str | Problem]]:
    """Lines with their line ends, numbered from 1; a Problem instead of a line that is not UTF-8."""
    with open_data(path) as file:
        for number, raw in enumerate(file, start=1):
            if number == 1 and raw.startswith(UTF16):
                yield number, utf16(name)
                return
            try:
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                yield number, not_utf8(f"{name}:{number}", error)


def utf16(name: str) -> Problem:
    return Problem(name, "the file is UTF-16; save it as UTF-8", ends_reading=True)


def not_utf8(place: str, error: UnicodeDecodeError) -> Problem:
    """A Problem that names the byte and shows the text around it."""
    around = error.object[max(0, error.start - EXCERPT) : error.start + EXCERPT].decode("utf-8", "replace").strip()
    byte = f"0x{error.object[error.start]:02x}"
    return Problem(place, f"byte {byte} is not UTF-8, near {around!r}; save the file as UTF-8")
