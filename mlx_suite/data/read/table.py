"""Read tables as records: CSV and TSV, whose cells are text, and Parquet, whose cells may be lists and objects."""

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from mlx_suite.data.read.records import Problem, Record, Records, decoded_lines, record_of
from mlx_suite.runtime.errors import UserError

LONGEST_CELL = 2**31 - 1
"""Maximum characters in a cell. Python's default of 131,072 is too few for a conversation with pasted files."""
PARQUET_EXTRA = "pip install 'mlx-suite[parquet]'"


def read_csv(path: Path, name: str, delimiter: str = "") -> Records:
    """Read the rows after a header; a cell may span lines. The default delimiter is a comma, or Excel's semicolon."""
    csv.field_size_limit(LONGEST_CELL)
    undecodable: list[Problem] = []
    lines = _table_lines(path, name, undecodable)
    first = next(lines, "")
    delimiter = delimiter or (";" if ";" in first and "," not in first else ",")
    rows = csv.reader(chain([first], lines) if first else lines, delimiter=delimiter, strict=True)
    header: list[str] = []
    line = 1
    while True:
        place = f"{name}:{line}"
        try:
            row = next(rows, None)
        except csv.Error as error:
            unclosed = "unexpected end of data" in str(error)
            what = "a quote in this row is never closed" if unclosed else f"cannot be read: {error}"
            yield Problem(place, what, ends_reading=unclosed)
            row = []
        line = rows.line_num + 1
        if undecodable:
            # Without a header, no row can be read.
            yield from (replace(problem, ends_reading=not header) for problem in undecodable)
            undecodable.clear()
            if not header:
                return
        elif row is None:
            return
        elif not row:
            continue
        elif not header:
            header = row
            repeated = [column for column, count in Counter(header).items() if count > 1]
            if repeated:
                yield Problem(place, f"the header names {repeated[0]!r} more than once", ends_reading=True)
                return
        elif len(row) != len(header):
            yield Problem(place, f"{len(row)} cells; expected {len(header)}, as in the header ({', '.join(header)})")
        else:
            yield Record(place, dict(zip(header, row, strict=True)))


def _table_lines(path: Path, name: str, undecodable: list[Problem]) -> Iterator[str]:
    """Lines for `csv.reader`, which takes only text: one that is not UTF-8 becomes an empty line and a Problem."""
    for _, line in decoded_lines(path, name):
        if isinstance(line, Problem):
            undecodable.append(line)
            yield "\n"
        else:
            yield line


def _unpadded(value: Any) -> Any:
    """A cell without the nulls by which Arrow gives all objects of a column the same keys."""
    if isinstance(value, dict):
        return {key: _unpadded(each) for key, each in value.items() if each is not None}
    return [_unpadded(each) for each in value] if isinstance(value, list) else value


def read_parquet(path: Path, name: str) -> Records:
    """Read rows, numbered from 1, in batches."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UserError("Reading Parquet needs pyarrow", where=str(path), fix=PARQUET_EXTRA) from error
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=4096):
                for value in batch.to_pylist():
                    number += 1
                    yield record_of({key: _unpadded(cell) for key, cell in value.items()}, f"{name}, row {number}")
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        reason = str(error).splitlines()[0]
        what = f"the Parquet file is damaged ({reason}); nothing after row {number} is read"
        yield Problem(name, what, ends_reading=True)
