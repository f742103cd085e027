"""Where MKL lies and which of its layers to use.

`libmkl_rt` is a dispatcher: the integer size ("interface layer") and the thread library ("threading
layer") are chosen at run time, from variables that another program may have set for itself. MLX
passes 32-bit sizes, so the interface is fixed here. For threads Intel's OpenMP comes first: with
both cores busy elsewhere, decoding with GNU's fell from about 150 to 5 tokens per second in one of
two runs.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

ONEAPI = Path("/opt/intel/oneapi")
_LP64 = 0
_SEQUENTIAL = 1
# Layer number of MKL_Set_Threading_Layer, and the thread library that has to be there for it.
_LAYERS = {"INTEL": (0, "libiomp5.so"), "GNU": (3, "libgomp.so.1"), "TBB": (4, "libtbb.so.12")}


def in_python(folders: Sequence[Path]) -> Iterator[str]:
    """`libmkl_rt` of pip's or conda's `mkl`: in the folders given, then where the package says."""
    for folder in folders:
        yield from _runtimes(folder)
    try:
        files = importlib.metadata.distribution("mkl").files or []
    except importlib.metadata.PackageNotFoundError:
        return
    for file in files:
        if file.name.startswith("libmkl_rt.so"):
            yield str(Path(str(file.locate())).resolve())


def on_system() -> Iterator[str]:
    """`libmkl_rt` of a system-wide installation, then the names the dynamic linker may know."""
    for root in (os.environ.get("MKLROOT"), ONEAPI / "mkl" / "latest"):
        if root:
            yield from _runtimes(Path(root) / "lib")
            yield from _runtimes(Path(root) / "lib" / "intel64")
    yield from ("libmkl_rt.so", "libmkl_rt.so.3", "libmkl_rt.so.2")


def _runtimes(folder: Path) -> list[str]:
    """`libmkl_rt.so*` in `folder`, the highest version first."""
    return [str(file) for file in sorted(folder.glob("libmkl_rt.so*"), key=_version, reverse=True)]


def _version(file: Path) -> int:
    last = file.name.rpartition(".")[2]
    return int(last) if last.isdigit() else 0


def choose_layers(library: ctypes.CDLL, folder: Path) -> None:
    """Fix 32-bit sizes and the best threading layer whose thread library can be loaded.

    A layer without its library would end the process at the first product ("FATAL ERROR"), so each
    is opened here before it is chosen; MKL without threads is the last resort.
    `MKL_THREADING_LAYER` is the user's and goes first. Where the process exports GNU's OpenMP already (`import torch`
    does that), Intel's layer would ask one library for its threads and the other for their numbers, and multiply
    wrongly: GNU's layer is taken then.
    """
    library.MKL_Set_Interface_Layer(_LP64)
    wanted = os.environ.get("MKL_THREADING_LAYER", "").upper()
    if wanted == "SEQUENTIAL":
        return
    process = ctypes.CDLL(None)
    gnu_is_there = hasattr(process, "GOMP_parallel") and not hasattr(process, "__kmpc_fork_call")
    usual = ("GNU", "INTEL") if gnu_is_there else ("INTEL", "GNU")
    for layer in dict.fromkeys((wanted, *usual)):
        number, runtime = _LAYERS.get(layer, (None, ""))
        if number is not None and _loads(runtime, folder):
            library.MKL_Set_Threading_Layer(number)
            return
    library.MKL_Set_Threading_Layer(_SEQUENTIAL)


def _loads(runtime: str, folder: Path) -> bool:
    """Load the thread library from beside MKL, from oneAPI, or from the system."""
    for place in (folder, ONEAPI / "compiler" / "latest" / "lib", None):
        try:
            ctypes.CDLL(str(place / runtime) if place else runtime, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        return True
    return False
