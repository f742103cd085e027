"""Lines of a file of text, packed or not, each decoded for itself."""

import codecs
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from mlx_suite.data.read.problems import Problem

EXCERPT = 24
"""Characters shown on either side of a mistake."""
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""How Windows begins files that are not UTF-8."""


def open_data(path: Path) -> BinaryIO:
    """The file's bytes, unpacked."""
    return cast(BinaryIO, gzip.open(path, "rb")) if path.name.lower().endswith(".gz") else path.open("rb")


def decoded_lines(path: Path, name: str) -> Iterator[tuple[int, str | Problem]]:
    """Lines, counted from 1, with their ends; a Problem in place of one that is not UTF-8."""
    with open_data(path) as file:
        for number, raw in enumerate(file, start=1):
            if number == 1 and raw.startswith(UTF16):
                yield number, Problem(name, "the file is UTF-16; save it as UTF-8")
                return
            try:
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                yield number, not_utf8(f"{name}:{number}", error)


def not_utf8(place: str, error: UnicodeDecodeError) -> Problem:
    """Names the byte and what stands around it."""
    around = error.object[max(0, error.start - EXCERPT) : error.start + EXCERPT].decode("utf-8", "replace").strip()
    byte = f"0x{error.object[error.start]:02x}"
    return Problem(place, f"byte {byte} is not UTF-8, near {around!r}; save the file as UTF-8")
