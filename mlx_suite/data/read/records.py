"""Records in files: JSON lines, JSON, CSV, TSV, Parquet and plain text.

Every record knows the line on which it begins. What cannot be read becomes a `Problem` with its place, and reading
goes on behind it wherever the file allows that. All but Parquet may be packed with gzip.
"""

import gzip
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mlx_suite.data.read.json import read_json, read_jsonl
from mlx_suite.data.read.lines import decoded_lines
from mlx_suite.data.read.problems import Problem
from mlx_suite.data.read.record import Found, Record
from mlx_suite.data.read.table import read_csv, read_parquet
from mlx_suite.runtime.errors import UserError

__all__ = ["SUFFIXES", "Record", "data_suffix", "read_records"]


def read_records(path: Path, name: str = "") -> Found:
    """The records of a file in order, and a Problem for each that cannot be read.

    `name` stands for the file in places; its own name if empty. Raises UserError for a file that cannot be opened, is
    of an unknown kind, or needs a library that is not installed.
    """
    name = name or path.name
    reader = _READERS.get(data_suffix(path.name))
    if reader is None:
        raise UserError(
            f"{path.suffix or 'no suffix'} is not a kind of data that can be read",
            where=str(path),
            fix=f"use one of {', '.join(SUFFIXES)}",
        )
    try:
        yield from reader(path, name)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        yield Problem(name, f"the packed file is damaged ({error}); what follows is not read")
    except OSError as error:
        raise UserError(
            f"The file cannot be read: {error.strerror or error}",
            where=str(path),
            fix="check the path and its permissions",
        ) from error


def data_suffix(name: str) -> str:
    """The suffix that decides how a file is read, in small letters and without .gz; empty for no data."""
    lowered = name.lower()
    plain = lowered.removesuffix(".gz")
    suffix = Path(plain).suffix
    return suffix if suffix in _READERS and not (suffix == ".parquet" and plain != lowered) else ""


def _read_text(path: Path, name: str) -> Found:
    """The whole file is one text."""
    lines = [line for _, line in decoded_lines(path, name)]
    problems = [line for line in lines if isinstance(line, Problem)]
    text = "".join(line for line in lines if isinstance(line, str))
    if problems:
        yield from problems
    elif text.strip():
        yield Record(name, text)


_READERS: dict[str, Callable[[Path, str], Found]] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": partial(read_csv, delimiter="\t"),
    ".parquet": read_parquet,
    ".txt": _read_text,
}
SUFFIXES = tuple(_READERS)
"""The kinds of files that can be read."""
