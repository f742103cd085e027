"""Rows as a table of Parquet. Needs pyarrow: `pip install 'mlx-suite[parquet]'`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlx_suite.data.table_records import PARQUET_EXTRA
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
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):
            texts = [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]
            columns[key] = pyarrow.array(texts, type=pyarrow.string())
    parquet.write_table(pyarrow.table(columns), path, compression="zstd")
