"""A fast BLAS for MLX on Linux, loaded before MLX is imported.

MLX's Linux wheel bundles the reference BLAS: about 5 GFLOP/s, where MKL and OpenBLAS reach hundreds. A library opened
with RTLD_GLOBAL before the first `import mlx.core` provides `cblas_sgemm` to libmlx (symbol interposition), without a
rebuild. `mlx_suite/__init__.py` calls `load_blas()` first of all.

Search order: a BLAS that the process already exports (LD_PRELOAD), `MLX_SUITE_BLAS` (a path, or `none`), the `mkl`
package of pip or conda, OpenBLAS of the environment or the system, MKL of the system.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .container import processes_here, usable_cores

VARIABLE = "MLX_SUITE_BLAS"
OPENBLAS_NAMES = ("libopenblas.so.0", "libopenblas.so", "libopenblasp.so.0", "libopenblaso.so.0")
INSTALL = "pip install mkl (x86-64), or install OpenBLAS (Debian: apt install libopenblas0)"

_THREAD_FUNCTIONS = {
    "MKL": ("MKL_Get_Max_Threads", "MKL_Set_Num_Threads"),
    "OpenBLAS": ("openblas_get_num_threads", "openblas_set_num_threads"),
}
# Environment variables that each library reads, in order of precedence.
_THREAD_VARIABLES = {
    "MKL": ("MKL_NUM_THREADS", "OMP_NUM_THREADS"),
    "OpenBLAS": ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"),
}


_ONEAPI = Path("/opt/intel/oneapi")
_LP64 = 0
_SEQUENTIAL = 1
# MKL's threading layers: the number for MKL_Set_Threading_Layer, and the thread library it needs.
_LAYERS = {"INTEL": (0, "libiomp5.so"), "GNU": (3, "libgomp.so.1"), "TBB": (4, "libtbb.so.12")}


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
    complaint = None
    if chosen:
        if library := _open(chosen):
            return _describe(library)
        complaint = f"{VARIABLE}={chosen} is not a library with cblas_sgemm"
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
    folders = list(dict.fromkeys(Path(prefix) / "lib" for prefix in (sys.prefix, sysconfig.get_config_var("base"))))
    yield from _mkl_of_python(folders)
    yield from (str(folder / name) for folder in folders for name in OPENBLAS_NAMES if (folder / name).exists())
    yield from OPENBLAS_NAMES
    yield from _mkl_of_system()


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
        _choose_layers(library, Path(file).parent)
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


def _mkl_of_python(folders: Sequence[Path]) -> Iterator[str]:
    """`libmkl_rt` of pip's or conda's `mkl` package: in `folders`, then where its metadata says."""
    for folder in folders:
        yield from _mkl_runtimes(folder)
    from importlib import metadata

    try:
        files = metadata.distribution("mkl").files or []
    except metadata.PackageNotFoundError:
        return
    for file in files:
        if file.name.startswith("libmkl_rt.so"):
            yield str(Path(str(file.locate())).resolve())


def _mkl_of_system() -> Iterator[str]:
    """`libmkl_rt` of a system-wide installation, then names for the dynamic linker."""
    for root in (os.environ.get("MKLROOT"), _ONEAPI / "mkl" / "latest"):
        if root:
            yield from _mkl_runtimes(Path(root) / "lib")
            yield from _mkl_runtimes(Path(root) / "lib" / "intel64")
    yield from ("libmkl_rt.so", "libmkl_rt.so.3", "libmkl_rt.so.2")


def _mkl_runtimes(folder: Path) -> list[str]:
    """`libmkl_rt.so*` in `folder`, the highest version first."""
    return [str(file) for file in sorted(folder.glob("libmkl_rt.so*"), key=_file_version, reverse=True)]


def _file_version(file: Path) -> int:
    last = file.name.rpartition(".")[2]
    return int(last) if last.isdigit() else 0


def _choose_layers(library: ctypes.CDLL, folder: Path) -> None:
    """Set 32-bit sizes and the best threading layer whose thread library can be loaded.

    `libmkl_rt` is a dispatcher: its integer size ("interface layer") and thread library ("threading layer") are chosen
    at run time, possibly by variables that another program has set. MLX passes 32-bit sizes. Intel's OpenMP comes
    first: with both cores busy, decoding with GNU's fell from about 150 to 5 tokens per second in one of two runs.

    A layer without its library ends the process at the first product ("FATAL ERROR"), so each library is opened here
    before its layer is chosen; sequential MKL is the last resort. `MKL_THREADING_LAYER` is the user's choice and comes
    first. If the process already exports GNU's OpenMP (as after `import torch`), Intel's layer would mix the two
    libraries and give wrong products: GNU's layer is used then.
    """
    library.MKL_Set_Interface_Layer(_LP64)
    chosen = os.environ.get("MKL_THREADING_LAYER", "").upper()
    if chosen == "SEQUENTIAL":
        return
    process = ctypes.CDLL(None)
    has_gnu = hasattr(process, "GOMP_parallel") and not hasattr(process, "__kmpc_fork_call")
    usual = ("GNU", "INTEL") if has_gnu else ("INTEL", "GNU")
    for layer in dict.fromkeys((chosen, *usual)):
        number, runtime = _LAYERS.get(layer, (None, ""))
        if number is not None and _loads(runtime, folder):
            library.MKL_Set_Threading_Layer(number)
            return
    library.MKL_Set_Threading_Layer(_SEQUENTIAL)


def _loads(runtime: str, folder: Path) -> bool:
    """Load a thread library from MKL's folder, oneAPI, or the system; False if there is none."""
    for place in (folder, _ONEAPI / "compiler" / "latest" / "lib", None):
        try:
            ctypes.CDLL(str(place / runtime) if place else runtime, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        return True
    return False
