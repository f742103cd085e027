"""Rows as a table of Parquet. Needs pyarrow: `pip install 'mlx-suite[parquet]'`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlx_suite.data.read.table import PARQUET_EXTRA
from mlx_suite.runtime.errors import UserError

Record = dict[str, Any]


def write_parquet(path: Path, rows: Sequence[Record]) -> None:
    """One column for each key of any row. A column whose values are of several types holds them as JSON.

    Raises UserError where pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UserError("Writing Parquet needs pyarrow", where="--to parquet", fix=PARQUET_EXTRA) from error
    columns = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        values = [row.get(key) for row in rows]
        try:
            columns[key] = pyarrow.array(values)
            if _has_empty_struct(columns[key].type):
                raise pyarrow.ArrowTypeError("Parquet has no object without keys")
        except (pyarrow.ArrowException, OverflowError, UnicodeEncodeError):
            texts = [None if value is None else json.dumps(value, default=str) for value in values]
            columns[key] = pyarrow.array(texts, type=pyarrow.string())
    parquet.write_table(pyarrow.table(columns), path, compression="zstd")


def _has_empty_struct(kind: Any) -> bool:
    """Whether a type of pyarrow holds an object of which no row has a key."""
    inner = [kind.field(number) for number in range(kind.num_fields)]
    return (str(kind) == "struct<>") or any(_has_empty_struct(field.type) for field in inner)
