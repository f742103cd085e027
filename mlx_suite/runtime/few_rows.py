"""Which form of a product of few rows with a weight matrix the BLAS of this machine computes fastest.

A decode step multiplies a few rows x by every weight W. MLX passes x·Wᵀ to the BLAS as it stands. (W·xᵀ)ᵀ is the same
product, which MKL computes up to three times faster for 2 to 32 rows, and for one row of a long matrix if a second row
is added. Libraries and processors differ, so both forms are measured once and the result is kept in the cache folder.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache

from .backend import import_mlx
from .benchmark import best_time
from .blas import load_blas
from .container import usable_cores
from .device import device, processor_name
from .errors import UserError
from .files import json_if_any, own_cache, write_atomically

ROWS = (2, 4, 8, 16, 32)
"""Measured numbers of rows; a number between two of them is treated as the smaller."""
LEAST_WEIGHTS = 2**20
"""Smaller matrices stay in a processor's own cache, where the forms hardly differ."""
LONG = 32
"""A matrix with this many times more outputs than inputs is long, such as an LM head."""
_SQUARE, _LONG_SHAPE = (2048, 2048), (65536, 640)
_SECONDS = 0.03
_GAIN = 0.9
"""Share of the usual form's time that the other must reach to be used."""


@dataclass(frozen=True, kw_only=True)
class FewRows:
    """The products that are computed as (W·xᵀ)ᵀ."""

    transposed: tuple[int, ...] = ()
    """Numbers of rows, from `ROWS`."""
    pads_one: bool = False
    """Whether one row of a long matrix is computed as two."""

    def __str__(self) -> str:
        """The choice in a few words, for `mlx-suite doctor`."""
        if not self.transposed:
            return "products as MLX passes them"
        rows = " or ".join(map(str, self.transposed)) if len(self.transposed) < len(ROWS) else f"2 to {ROWS[-1]}"
        return f"products transposed for {rows} rows"

    def is_transposed(self, rows: int) -> bool:
        """Whether a product of this many rows, at least two, is computed as (W·xᵀ)ᵀ."""
        return rows <= ROWS[-1] and max(size for size in ROWS if size <= rows) in self.transposed


USUAL = FewRows()


@cache
def few_rows() -> FewRows:
    """The choice for this machine: x·Wᵀ throughout on a GPU, otherwise what was measured, now or by an earlier run."""
    if device().kind != "cpu":
        return USUAL
    path = own_cache() / f"products-{_key()}.json"
    known = json_if_any(path)
    try:
        return FewRows(transposed=tuple(known["transposed"]), pads_one=bool(known["pads_one"]))
    except (TypeError, KeyError):
        measured = measure()
    with suppress(OSError, UserError):  # without a cache folder, every run measures
        write_atomically(path, json.dumps(asdict(measured)))
    return measured


def measure() -> FewRows:
    """Time both forms on this machine; takes about half a second."""
    mx = import_mlx()
    square, long = (mx.random.normal(shape) for shape in (_SQUARE, _LONG_SHAPE))
    mx.eval(square, long)

    def seconds(weight: object, rows: int, *, transposed: bool) -> float:
        x = mx.random.normal((rows, weight.shape[1]))  # type: ignore[attr-defined]
        mx.eval(x)
        return best_time(lambda: weight @ x.T if transposed else x @ weight.T, _SECONDS)  # type: ignore[attr-defined]

    def wins(rows: int) -> bool:
        return seconds(square, rows, transposed=True) < _GAIN * seconds(square, rows, transposed=False)

    pads_one = seconds(long, 2, transposed=True) < _GAIN * seconds(long, 1, transposed=False)
    return FewRows(transposed=tuple(filter(wins, ROWS)), pads_one=pads_one)


def _key() -> str:
    """Names what the measurement depends on."""
    blas = load_blas()
    parts = (
        blas.name,
        str(blas.path),
        str(blas.threads),
        processor_name(),
        str(usable_cores()),
        import_mlx().__version__,
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
