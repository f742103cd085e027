"""Which BLAS library is faster on this machine, if several are installed: measured once, then remembered.

Neither MKL nor OpenBLAS is the faster one everywhere. On an AMD EPYC, OpenBLAS multiplies 8 rows 1.4 times and the
small matrices of attention six to ten times as fast as MKL; on Intel's processors MKL is the usual choice. A library
cannot be replaced once it is loaded, so each is measured in a process of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

from .container import usable_cores
from .errors import UserError
from .files import json_if_any, own_cache, write_atomically
from .processor import processor_name

VARIABLE = "MLX_SUITE_BLAS"
FAMILIES = ("MKL", "OpenBLAS")


@dataclass(frozen=True, kw_only=True)
class BlasTimes:
    """Seconds that a library takes for the products of typical work."""

    one_row: float
    """One row times a matrix of 2,048 × 8,192: a decode step of one text."""
    eight_rows: float
    """Eight rows times the same matrix: a decode step of a batch."""
    attention: float
    """Scores and sums of one new token in 8 rows of 4 key heads with 128 keys."""
    long_input: float
    """512 rows times the same matrix: prefill and training."""

    def over(self, other: BlasTimes) -> BlasTimes:
        """How many times as fast as another library each product is."""
        return BlasTimes(**{name: getattr(other, name) / seconds for name, seconds in asdict(self).items()})

    @property
    def mean(self) -> float:
        """The geometric mean, which weighs all products alike."""
        values = asdict(self).values()
        return float(prod(values) ** (1 / len(values)))

    def __str__(self) -> str:
        """Ratios in words."""
        return (
            f"{self.one_row:.1f}x at 1 row, {self.eight_rows:.1f}x at 8 rows, {self.attention:.1f}x in attention, "
            f"{self.long_input:.1f}x in long inputs"
        )


@dataclass(frozen=True, kw_only=True)
class BlasChoice:
    """The faster library and by how much."""

    name: str
    other: str
    ratios: BlasTimes

    def __str__(self) -> str:
        """In a few words, for `mlx-suite doctor`."""
        return f"{self.ratios} beside {self.other}"


def preferred() -> str:
    """The library to try first: what was measured on this machine, otherwise OpenBLAS on AMD's processors, else MKL."""
    known = remembered()
    return known.name if known else "OpenBLAS" if "AMD" in processor_name() else "MKL"


def remembered() -> BlasChoice | None:
    """What an earlier run measured on this machine; None if nothing was, or the file is damaged."""
    kept = json_if_any(_path())
    try:
        choice = BlasChoice(name=kept["name"], other=kept["other"], ratios=BlasTimes(**kept["ratios"]))
    except (KeyError, TypeError):
        return None
    return choice if choice.name in FAMILIES else None


def choose() -> BlasChoice | None:
    """Measure both libraries, in about five seconds, and remember the faster; None unless both are installed."""
    times = {name: found for name in FAMILIES if (found := _measured(name)) is not None}
    if len(times) < 2:
        return None
    best = min(times, key=lambda name: times[name].mean)
    other = next(name for name in times if name != best)
    choice = BlasChoice(name=best, other=other, ratios=times[best].over(times[other]))
    with suppress(OSError, UserError):  # without a cache folder, the usual order stays
        write_atomically(_path(), json.dumps(asdict(choice)))
    return choice


def measured_in_child(blas: str, program: str) -> Any:
    """The JSON value that a program prints in a process with another BLAS; None if it fails or takes over a minute."""
    import subprocess

    # The child must import the same mlx_suite, even if this one was found through the current folder.
    source = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH", "")]))
    environment: Mapping[str, str] = {**os.environ, VARIABLE: blas, "PYTHONPATH": path}
    try:
        child = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=True
        )
        return json.loads(child.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def times_here(seconds: float = 0.15) -> BlasTimes:
    """Measure the library of this process, each product in its fastest form."""
    import mlx.core as mx

    from .benchmark import best_time
    from .few_rows import typical_seconds

    queries, keys = mx.random.normal((8, 4, 2, 64)), mx.random.normal((8, 4, 128, 64))
    mx.eval(queries, keys)
    return BlasTimes(
        one_row=typical_seconds(1, seconds),
        eight_rows=typical_seconds(8, seconds),
        attention=best_time(lambda: (queries @ keys.swapaxes(2, 3)) @ keys, seconds),
        long_input=typical_seconds(512, seconds),
    )


def _measured(name: str) -> BlasTimes | None:
    program = (
        "import json, dataclasses, mlx_suite\n"
        "from mlx_suite.runtime import blas, blas_choice\n"
        "print(json.dumps([blas.load_blas().name, dataclasses.asdict(blas_choice.times_here())]))"
    )
    match measured_in_child(name, program):
        case [found, dict(times)] if found == name:
            return BlasTimes(**times)
    return None


def _path() -> Path:
    key = hashlib.sha256(f"{processor_name()}\n{usable_cores()}".encode()).hexdigest()[:12]
    return own_cache() / f"blas-{key}.json"
