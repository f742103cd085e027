"""Which form of a product of few rows with a weight matrix the BLAS of this machine computes fastest.

A decode step multiplies a few rows x by every weight W. MLX passes x·Wᵀ to the BLAS as it stands ("plain"). The same
product has other forms:

- transposed: (W·xᵀ)ᵀ, which MKL computes up to three times faster for 2 to 32 rows;
- padded: one row as two, transposed, for MKL and long matrices;
- sliced: W in slices of a few outputs. OpenBLAS multiplies small matrices without copying them first, so this reads W
  once, which takes a half to a fifth of the time for 1 to 8 rows.

Libraries and processors differ, so all forms are measured once and the choice is kept in the cache folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Literal, get_args

from .backend import import_mlx
from .benchmark import best_time
from .blas import load_blas
from .container import usable_cores
from .device import device
from .errors import UserError
from .files import json_if_any, own_cache, write_atomically
from .processor import processor_name

if TYPE_CHECKING:
    import mlx.core as mx

Form = Literal["plain", "transposed", "padded", "sliced"]
ROWS = (1, 2, 4, 8, 16, 32)
"""Measured numbers of rows; a number between two of them is treated as the smaller."""
_PLAIN: tuple[Form, ...] = ("plain", "plain", "plain", "plain", "plain", "plain")
LEAST_WEIGHTS = 2**18
"""Smaller matrices stay in a processor's own cache, where the forms hardly differ."""
_SMALL_PRODUCT = 10**6
"""Multiplications of the largest product that OpenBLAS computes without copies, not included."""
_SLICES = (128, 64, 32, 16, 8)
"""Outputs per slice, the preferred number first."""
_LARGE, _LONG = 2**20, 32
"""Weights of a large matrix; outputs per input of a long one, such as an LM head."""
_SHAPES = {"small": (1024, 512), "large": (2048, 2048), "long": (32768, 640)}
_WEIGHTS = 2**24
"""Weights that are multiplied in turn: more than fit into a processor's cache."""
_SECONDS = 0.02
_GAIN = 0.9
"""Share of the plain form's time that another must reach to be used."""


@dataclass(frozen=True, kw_only=True)
class FewRows:
    """The form of products by kind of matrix, one for each of `ROWS`."""

    small: tuple[Form, ...] = _PLAIN
    large: tuple[Form, ...] = _PLAIN
    long: tuple[Form, ...] = _PLAIN

    def __str__(self) -> str:
        """The choice for large matrices in a few words, for `mlx-suite doctor`."""
        runs: list[tuple[Form, list[int]]] = []
        for rows, form in zip(ROWS, self.large, strict=True):
            if not runs or runs[-1][0] != form:
                runs.append((form, []))
            runs[-1][1].append(rows)
        if len(runs) == 1:
            return f"products {runs[0][0]}"
        spans = (f"{form} for {rows[0]}" + f" to {rows[-1]}" * (len(rows) > 1) for form, rows in runs)
        return f"products {', '.join(spans)} rows"

    def form(self, outputs: int, inputs: int, rows: int) -> Form:
        """How to multiply `rows` rows by a matrix (outputs, inputs)."""
        if outputs * inputs < LEAST_WEIGHTS or rows > ROWS[-1]:
            return "plain"
        forms = self.long if outputs >= _LONG * inputs else self.large if outputs * inputs >= _LARGE else self.small
        return forms[max(at for at, measured in enumerate(ROWS) if measured <= rows)]


USUAL = FewRows()


def multiply(x: mx.array, weight: mx.array, form: Form) -> mx.array:
    """x (R, I) · weight (O, I)ᵀ → (R, O) in the given form; plain where the form does not fit the shapes."""
    mlx = import_mlx()
    rows, (outputs, inputs) = x.shape[0], weight.shape
    if form == "transposed":
        product: mx.array = mlx.contiguous((weight @ x.T).T)
        return product
    if form == "padded" and rows == 1:
        return multiply(mlx.concatenate([x, mlx.zeros_like(x)]), weight, "transposed")[:1]
    if form == "sliced" and (size := slice_of(outputs, inputs, rows)):
        slices = weight.reshape(outputs // size, size, inputs)
        return (x @ slices.swapaxes(1, 2)).swapaxes(0, 1).reshape(rows, outputs)
    return x @ weight.T


def slice_of(outputs: int, inputs: int, rows: int) -> int:
    """Outputs per slice of a sliced product: the most that divide `outputs` and keep products small; 0 for none."""
    fit = (size for size in _SLICES if outputs % size == 0 and rows * size * inputs < _SMALL_PRODUCT)
    return next(fit, 0)


@cache
def few_rows() -> FewRows:
    """The choice for this machine: plain throughout on a GPU, otherwise what was measured, now or by an earlier run."""
    if device().kind != "cpu":
        return USUAL
    path = own_cache() / f"products-{_key()}.json"
    if (known := _read(json_if_any(path))) is not None:
        return known
    measured = measure()
    with suppress(OSError, UserError):  # without a cache folder, every run measures
        write_atomically(path, json.dumps(asdict(measured)))
    return measured


def measure() -> FewRows:
    """Time all forms on this machine; takes about two seconds."""
    return FewRows(**{kind: tuple(_fastest(shape)) for kind, shape in _SHAPES.items()})


def _fastest(shape: tuple[int, int]) -> Iterator[Form]:
    """The form that multiplies each of `ROWS` fastest; plain unless another is clearly faster.

    Several matrices are multiplied in turn, since a model's weights are larger than a processor's cache.
    """
    mx = import_mlx()
    weights = [mx.full(shape, 0.5) for _ in range(max(1, _WEIGHTS // (shape[0] * shape[1])))]
    for rows in ROWS:
        x = mx.full((rows, shape[1]), 0.5)
        mx.eval(weights, x)
        seconds: dict[Form, float] = {}
        for form in ("plain", "padded" if rows == 1 else "transposed", "sliced"):
            seconds[form] = best_time(partial(_multiply_all, x, weights, form), _SECONDS)
        seconds["plain"] *= _GAIN
        yield min(seconds, key=lambda form: seconds[form])


def _multiply_all(x: mx.array, weights: Sequence[mx.array], form: Form) -> list[mx.array]:
    return [multiply(x, each, form) for each in weights]


def _read(kept: object) -> FewRows | None:
    """The choice that an earlier run wrote; None if there is none, or it is damaged."""
    try:
        found = FewRows(**{kind: tuple(kept[kind]) for kind in _SHAPES})  # type: ignore[index]
    except (KeyError, TypeError):
        return None
    every = [found.small, found.large, found.long]
    whole = all(len(forms) == len(ROWS) and set(forms) <= set(get_args(Form)) for forms in every)
    return found if whole else None


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
