"""Which form of a product of few rows with a weight matrix the BLAS of this machine computes fastest.

A decode step multiplies a few rows x by every weight W. MLX passes x·Wᵀ to the BLAS as it stands ("plain"). The same
product has other forms:

- transposed: (W·xᵀ)ᵀ, which MKL computes up to three times faster for 2 to 32 rows;
- padded: one row as two, transposed, for MKL and long matrices;
- sliced: W in slices of a few outputs. OpenBLAS multiplies small matrices without copying them first, so this reads W
  once, which takes a half to a fifth of the time for 1 to 8 rows;
- in blocks: sliced, with a second copy of W in which every slice is stored transposed, so that vectors run over outputs
  (`modeling.blocked` makes the copies). This takes a half to three quarters of the time of the others for 1 to 16 rows;
  more rows are multiplied a few at a time.

A small product runs on one core, so the slices of a large matrix are shared between several streams of MLX.

Libraries and processors differ, so the forms are measured for each shape of a matrix, once, and the choice is kept in
the cache folder.

Shapes: R rows, I inputs, O outputs, N slices or blocks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache, partial
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from .backend import import_mlx
from .benchmark import best_time
from .blas import load_blas
from .container import usable_cores
from .device import device_kind, streams
from .errors import UserError
from .files import json_if_any, own_cache, write_atomically
from .processor import processor_name

if TYPE_CHECKING:
    import mlx.core as mx

Form = Literal["plain", "transposed", "padded", "sliced"]
ROWS = (1, 2, 4, 8, 16, 32)
"""Measured numbers of rows; a number between two of them is treated as the smaller."""
LEAST_WEIGHTS = 2**18
"""Smaller matrices stay in a processor's own cache, where the forms hardly differ."""
_PLAIN: tuple[Form, ...] = ("plain", "plain", "plain", "plain", "plain", "plain")
TYPICAL = (8192, 2048)
"""Shape of a matrix of a model with a billion parameters, to compare libraries by."""
_SMALL_PRODUCT = 10**6
"""Multiplications of the largest product that OpenBLAS computes without copies, not included."""
_SLICES = (128, 64, 32, 16, 8)
"""Outputs per slice, the preferred number first."""
_BLOCKS = (64, 32, 16)
"""Outputs per block, likewise."""
_BLOCK_ROWS = 8
"""Rows that a block must be able to multiply."""
_SHARED = 2**20
"""Weights of the smallest matrix that several streams share."""
_SHARED_PRODUCT = 2**23
"""Multiplications from which they share a smaller one too."""
_WEIGHTS = 2**24
"""Weights that are multiplied in turn when the forms are measured: more than fit into a processor's cache."""
_SECONDS = 0.015
_GAIN = 0.9
"""Share of the plain form's time that another must reach to be used, and of all forms' time that copies must."""


@dataclass(frozen=True, kw_only=True)
class Forms:
    """The fastest forms of the products with a matrix of one shape."""

    by_rows: tuple[Form, ...] = _PLAIN
    """The form without a copy for each of `ROWS`."""
    blocked: int = 0
    """Rows up to which a copy in blocks is used: for all measured numbers up to it together it saves the most time. 0
    if it saves none."""

    def form(self, rows: int) -> Form:
        """How to multiply `rows` rows without a copy in blocks."""
        if rows > ROWS[-1]:
            return "plain"
        return self.by_rows[max(at for at, measured in enumerate(ROWS) if measured <= rows)]

    def __str__(self) -> str:
        """The choice in a few words, for `mlx-suite doctor`."""
        runs: list[tuple[Form, list[int]]] = []
        for rows, form in zip(ROWS, self.by_rows, strict=True):
            if not runs or runs[-1][0] != form:
                runs.append((form, []))
            runs[-1][1].append(rows)
        spans = (f"{form} for {rows[0]}" + f" to {rows[-1]}" * (len(rows) > 1) for form, rows in runs)
        told = f"products {', '.join(spans)} rows" if len(runs) > 1 else f"products {runs[0][0]}"
        return told + f"; from copies in blocks up to {self.blocked} rows" * (self.blocked > 0)


USUAL = Forms()


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
        return multiply_blocks(x, weight.reshape(outputs // size, size, inputs).swapaxes(1, 2))
    return x @ weight.T


def multiply_blocks(x: mx.array, blocks: mx.array) -> mx.array:
    """x (R, I) · blocks (N, I, O/N) → (R, O), a few rows at a time, and on several streams if it is much work."""
    mlx = import_mlx()
    rows, (count, inputs, size) = x.shape[0], blocks.shape
    is_large = blocks.size >= _SHARED or rows * blocks.size >= _SHARED_PRODUCT
    shared = streams() if is_large else (None,)
    most = max(1, (_SMALL_PRODUCT - 1) // (size * inputs))
    groups = _spans(rows, -(-rows // most))

    def part(start: int, end: int, stream: Any) -> mx.array:
        products = [mlx.matmul(x[a:b], blocks[start:end], stream=stream) for a, b in groups]
        together: mx.array = mlx.concatenate(products, axis=1, stream=stream) if len(groups) > 1 else products[0]
        return together

    parts = [part(*span, stream) for span, stream in zip(_spans(count, len(shared)), shared, strict=True)]
    product: mx.array = mlx.concatenate(parts) if len(parts) > 1 else parts[0]
    return product.swapaxes(0, 1).reshape(rows, count * size)


def _spans(count: int, parts: int) -> list[tuple[int, int]]:
    """(start, end) of `parts` parts of `count` things, as equal as they can be."""
    return list(pairwise(count * at // parts for at in range(parts + 1)))


def slice_of(outputs: int, inputs: int, rows: int) -> int:
    """Outputs per slice of a sliced product: the most that divide `outputs` and keep products small; 0 for none."""
    return _largest(_SLICES, outputs, rows * inputs)


def block_of(outputs: int, inputs: int) -> int:
    """Outputs per block: the most that divide `outputs` and keep products of a few rows small; 0 for none."""
    return _largest(_BLOCKS, outputs, _BLOCK_ROWS * inputs)


def in_blocks(weight: mx.array) -> mx.array:
    """A copy of a matrix (O, I) in blocks (N, I, O/N), of `block_of` outputs each."""
    outputs, inputs = weight.shape
    size = block_of(outputs, inputs)
    copy: mx.array = import_mlx().contiguous(weight.reshape(outputs // size, size, inputs).swapaxes(1, 2))
    return copy


def measured(outputs: int, inputs: int) -> Forms:
    """The forms for a matrix (outputs, inputs), as measured now or by an earlier run; plain ones if never."""
    if outputs * inputs < LEAST_WEIGHTS or device_kind() != "cpu":
        return USUAL
    return _measured().get(_shape(outputs, inputs), USUAL)


def measure(shapes: Iterable[Sequence[int]]) -> None:
    """Measure the forms for matrices (O, I), in half a second per shape that is new on this machine.

    On a GPU nothing is measured, and every product stays plain.
    """
    if device_kind() != "cpu":
        return
    known = _measured()
    missing = {_shape(*each) for each in shapes if each[0] * each[1] >= LEAST_WEIGHTS} - known.keys()
    if not missing:
        return
    known.update((shape, _fastest(shape)) for shape in sorted(missing))
    with suppress(OSError, UserError):  # without a cache folder, every run measures
        write_atomically(_path(), json.dumps({f"{o}x{i}": asdict(forms) for (o, i), forms in known.items()}))


def typical_seconds(rows: int, seconds: float) -> float:
    """Seconds that `rows` rows times a matrix of shape `TYPICAL` take in the fastest form, measured for `seconds`."""
    measure([TYPICAL])
    mx, forms = import_mlx(), measured(*TYPICAL)
    x, weight = mx.full((rows, TYPICAL[1]), 0.5), mx.full(TYPICAL, 0.5)
    if rows <= forms.blocked:
        work = partial(multiply_blocks, x, in_blocks(weight))
    else:
        work = partial(multiply, x, weight, forms.form(rows))
    mx.eval(work.args[:2])
    return best_time(work, seconds)


def decode_bandwidth(seconds: float = 0.4) -> float:
    """GB/s at which one row is multiplied by a large matrix in the fastest form: the bottleneck of one text."""
    return 4 * TYPICAL[0] * TYPICAL[1] / typical_seconds(1, seconds) / 1e9


def _largest(sizes: Sequence[int], outputs: int, multiplications: int) -> int:
    """The first size that divides `outputs` and keeps a product with so many multiplications per output small."""
    return next((size for size in sizes if outputs % size == 0 and size * multiplications < _SMALL_PRODUCT), 0)


def _shape(outputs: int, inputs: int) -> tuple[int, int]:
    """The shape that is measured in place of this one: of a larger matrix, such as an LM head, the first `_WEIGHTS`."""
    most = max(_BLOCKS[0], _WEIGHTS // inputs // _BLOCKS[0] * _BLOCKS[0])
    return (most, inputs) if outputs > most and outputs % _BLOCKS[0] == 0 else (outputs, inputs)


def _fastest(shape: tuple[int, int]) -> Forms:
    """Time all forms; anything but plain must be clearly faster than it.

    Several matrices are multiplied in turn, since a model's weights are larger than a processor's cache.
    """
    mx = import_mlx()
    weights = [mx.full(shape, 0.5) for _ in range(max(1, _WEIGHTS // (shape[0] * shape[1])))]
    blocks = [in_blocks(each) for each in weights] if block_of(*shape) else []
    forms: list[Form] = []
    saved: list[float] = []
    for rows in ROWS:
        x = mx.full((rows, shape[1]), 0.5)
        mx.eval(weights, blocks, x)
        tried: tuple[Form, ...] = ("plain", "padded" if rows == 1 else "transposed", "sliced")
        works = {form: partial(_chain, partial(multiply, form=form), x, weights) for form in tried}
        seconds = {form: best_time(work, _SECONDS) for form, work in works.items()}
        if blocks:
            with_copies = best_time(partial(_chain, multiply_blocks, x, blocks), _SECONDS)
            saved.append(_GAIN * min(seconds.values()) - with_copies)
        seconds["plain"] *= _GAIN
        forms.append(min(seconds, key=lambda form: seconds[form]))
    # Copies serve all batches up to some size, the one at which they save the most time in all.
    totals = dict(zip((0, *ROWS), accumulate(saved, initial=0.0), strict=False))
    return Forms(by_rows=tuple(forms), blocked=max(totals, key=lambda rows: totals[rows]))


def _chain(product: Callable[[mx.array, mx.array], mx.array], x: mx.array, weights: Sequence[mx.array]) -> mx.array:
    """The last of several products, each of which waits for the one before it, as in a model."""
    mlx = import_mlx()
    for weight in weights:
        y = product(x, weight)
        x = mlx.depends(x, y)
    return y


@cache
def _measured() -> dict[tuple[int, int], Forms]:
    """What earlier runs measured and this one has added, by shape."""
    kept = json_if_any(_path())
    pairs = ((_read_shape(name), _read_forms(forms)) for name, forms in kept.items()) if isinstance(kept, dict) else ()
    return {shape: forms for shape, forms in pairs if shape is not None and forms is not None}


def _read_shape(name: str) -> tuple[int, int] | None:
    outputs, _, inputs = name.partition("x")
    return (int(outputs), int(inputs)) if outputs.isdigit() and inputs.isdigit() else None


def _read_forms(kept: object) -> Forms | None:
    """Forms that an earlier run wrote; None if they are damaged or another version's."""
    match kept:
        case {"by_rows": list(forms), "blocked": int(blocked)}:
            if len(forms) == len(ROWS) and set(forms) <= set(get_args(Form)):
                return Forms(by_rows=tuple(forms), blocked=blocked)
    return None


def _path() -> Path:
    """The file with the measurements of this machine; its name depends on all that they depend on."""
    blas = load_blas()
    parts = (
        blas.name,
        str(blas.path),
        str(blas.threads),
        processor_name(),
        str(usable_cores()),
        import_mlx().__version__,
    )
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
    return own_cache() / f"products-{key}.json"
