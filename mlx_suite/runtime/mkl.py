"""Where MKL is found, and how its dispatcher is set up for MLX."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

_ONEAPI = Path("/opt/intel/oneapi")
_LP64 = 0
_SEQUENTIAL = 1
# MKL's threading layers: the number for MKL_Set_Threading_Layer, and the thread library it needs.
_LAYERS = {"INTEL": (0, "libiomp5.so"), "GNU": (3, "libgomp.so.1"), "TBB": (4, "libtbb.so.12")}


def mkl_files(folders: Sequence[Path]) -> Iterator[str]:
    """Files and names of `libmkl_rt` to try, best first; `folders` are those of the environment."""
    yield from _mkl_of_python(folders)
    yield from _mkl_of_system()


def _mkl_of_python(folders: Sequence[Path]) -> Iterator[str]:
    """`libmkl_rt` of pip's or conda's `mkl` package: in `folders`, then where its metadata says."""
    for folder in folders:
        yield from _mkl_runtimes(folder)
    from importlib import metadata  # imports the e-mail package, and is seldom needed

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


def choose_layers(library: ctypes.CDLL, folder: Path) -> None:
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
