"""A fast BLAS for MLX on Linux, loaded before MLX is imported.

MLX's Linux wheel bundles the reference BLAS: about 5 GFLOP/s, where MKL and OpenBLAS reach hundreds. A library opened
with RTLD_GLOBAL before the first `import mlx.core` provides `cblas_sgemm` to libmlx (symbol interposition), without a
rebuild. `mlx_suite/__init__.py` calls `load_blas()` first of all.

Search order: a BLAS that the process already exports (LD_PRELOAD), `MLX_SUITE_BLAS` (a path, `mkl`, `openblas` or
`none`), then MKL and OpenBLAS, in the order that `blas_choice` says, from Python packages before the system.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .blas_choice import VARIABLE, preferred
from .container import processes_here, usable_cores
from .mkl import choose_layers, mkl_files
from .openblas import let_threads_sleep, openblas_files

INSTALL = "pip install mkl (x86-64), or install OpenBLAS (Debian: apt install libopenblas0)"

_THREAD_FUNCTIONS = {
    "MKL": ("MKL_Get_Max_Threads", "MKL_Set_Num_Threads"),
    "OpenBLAS": ("openblas_get_num_threads", "openblas_set_num_threads"),
}
_FILES = {"MKL": mkl_files, "OpenBLAS": openblas_files}
# Environment variables that each library reads, in order of precedence.
_THREAD_VARIABLES = {
    "MKL": ("MKL_NUM_THREADS", "OMP_NUM_THREADS"),
    "OpenBLAS": ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"),
}


@dataclass(frozen=True, kw_only=True)
class Blas:
    """The BLAS that computes MLX's matrix products on the CPU."""

    name: str
    """MKL, OpenBLAS, Accelerate (macOS), bundled (the wheel's reference BLAS), or a file name."""
    path: Path | None = None
    """The library file; None for a BLAS that comes with MLX or the system."""
    threads: int | None = None
    """Threads per product; None if unknown."""
    advice: str | None = None
    """One line on how to get more speed; None if there is nothing to gain."""


@functools.cache
def load_blas() -> Blas:
    """Load the best BLAS that can be found. Only the first call in a process loads; later ones return its result."""
    if sys.platform == "darwin":
        return Blas(name="Accelerate")
    if not sys.platform.startswith("linux"):
        return Blas(name="bundled")
    if preloaded := _exported():
        return _describe(preloaded)
    chosen = os.environ.get(VARIABLE, "").strip()
    if chosen.lower() == "none":
        return Blas(name="bundled", threads=1)
    if "mlx.core" in sys.modules:
        return Blas(
            name="bundled",
            threads=1,
            advice="MLX was imported before mlx_suite, so matrix products run on its slow bundled "
            "BLAS: import mlx_suite before mlx.",
        )
    let_threads_sleep()
    complaint = None
    if chosen:
        named = next((files(_folders()) for name, files in _FILES.items() if name.lower() == chosen.lower()), None)
        for candidate in named or (chosen,):
            if library := _open(candidate):
                return _describe(library)
        complaint = f"{VARIABLE}={chosen} " + ("is not installed" if named else "is not a library with cblas_sgemm")
    for candidate in _candidates():
        if library := _open(candidate):
            blas = _describe(library)
            if complaint:
                return Blas(
                    name=blas.name,
                    path=blas.path,
                    threads=blas.threads,
                    advice=f"{complaint}; {blas.name} runs.",
                )
            return blas
    if gpu_backend_installed() and not complaint:
        return Blas(name="bundled", threads=1)  # the GPU computes the products: no advice about the CPU
    return Blas(
        name="bundled",
        threads=1,
        advice=f"{complaint or 'No fast BLAS was found'}, so matrix products run up to 60 times slower: {INSTALL}.",
    )


def gpu_backend_installed() -> bool:
    """Whether the CUDA build of MLX is installed."""
    return any(_installed(f"mlx-cuda-{version}") for version in (12, 13))


def _installed(package: str) -> bool:
    from importlib import metadata  # imports the e-mail package, and is seldom needed

    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _exported() -> ctypes.CDLL | None:
    """The process itself, if its global symbols already include a BLAS."""
    process = ctypes.CDLL(None)
    return process if hasattr(process, "cblas_sgemm") else None


def _candidates() -> Iterator[str]:
    """Library files and names to try, best first."""
    first = preferred()
    for name in sorted(_FILES, key=lambda name: name != first):
        yield from _FILES[name](_folders())


def _folders() -> list[Path]:
    """Folders of libraries that pip and conda install."""
    return list(dict.fromkeys(Path(prefix) / "lib" for prefix in (sys.prefix, sysconfig.get_config_var("base"))))


def _open(file: str) -> ctypes.CDLL | None:
    """Open `file` globally if it is a BLAS that MLX can call; None otherwise."""
    try:
        # Opened locally first: global symbols cannot be removed again.
        library = ctypes.CDLL(file, mode=ctypes.RTLD_LOCAL)
    except OSError:
        return None
    if not hasattr(library, "cblas_sgemm") or _has_64_bit_sizes(library):
        return None
    if hasattr(library, "MKL_Set_Threading_Layer"):
        choose_layers(library, Path(file).parent)
    return ctypes.CDLL(file, mode=ctypes.RTLD_GLOBAL)


def _has_64_bit_sizes(library: ctypes.CDLL) -> bool:
    """Whether an OpenBLAS was built with 64-bit sizes; MLX passes 32-bit ones."""
    if not hasattr(library, "openblas_get_config"):
        return False
    library.openblas_get_config.restype = ctypes.c_char_p
    return b"USE64BITINT" in (library.openblas_get_config() or b"")


def _describe(library: ctypes.CDLL) -> Blas:
    path = _file_of(library)
    name = path.name if path else "preloaded"
    for known, (get, _) in _THREAD_FUNCTIONS.items():
        if hasattr(library, get):
            name = known
    if name not in _THREAD_FUNCTIONS:
        return Blas(name=name, path=path)
    # Threads that wait for each other on cores used by other processes make everything many times slower.
    cores = max(1, usable_cores() // processes_here())
    get, set_ = (getattr(library, function) for function in _THREAD_FUNCTIONS[name])
    variable = next((v for v in _THREAD_VARIABLES[name] if os.environ.get(v)), None)
    if variable is None and get() > cores:
        set_(cores)  # the library counts the machine's cores, not the usable ones
    threads = int(get())
    return Blas(name=name, path=path, threads=threads, advice=_thread_advice(name, variable, threads, cores))


def _thread_advice(name: str, variable: str | None, threads: int, cores: int) -> str | None:
    """One line about the user's thread count, if it costs speed or has no effect on `name`."""
    if variable:
        setting = f"{variable}={os.environ[variable]}"
        if threads < cores:
            return f"{setting} keeps matrix products on {threads} of {cores} cores: unset it."
        if threads > cores or _requested_threads(variable) > cores:
            return f"{setting} asks for more threads than the {cores} usable cores: unset it."
        return None
    for other in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        if os.environ.get(other) and _requested_threads(other) != threads:
            own = _THREAD_VARIABLES[name][0]
            setting = f"{other}={os.environ[other]}"
            return f"{setting} does not reach {name}, which uses {threads} threads: set {own}."
    return None


def _requested_threads(variable: str) -> int:
    value = os.environ[variable].split(",")[0].strip()  # OpenMP allows a list: one number per nesting level
    return int(value) if value.isdigit() else 0


class _SymbolInfo(ctypes.Structure):
    """`Dl_info` of dladdr(3)."""

    _fields_ = [
        ("file", ctypes.c_char_p),
        ("file_base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    ]


def _file_of(library: ctypes.CDLL) -> Path | None:
    """The file that defines `cblas_sgemm` of `library`."""
    dladdr = getattr(ctypes.CDLL(None), "dladdr", None)
    info = _SymbolInfo()
    if dladdr is None or not dladdr(ctypes.cast(library.cblas_sgemm, ctypes.c_void_p), ctypes.byref(info)):
        return None
    return Path(os.fsdecode(info.file)) if info.file else None
