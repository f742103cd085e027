"""Where OpenBLAS is found: in PyPI's `ngsolve-openblas` package, the environment, or the system."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

from .files import own_cache

IDLE = "OPENBLAS_THREAD_TIMEOUT"
"""Variable with the logarithm of the cycles without work after which a thread sleeps."""
_NAMES = ("libopenblas.so.0", "libopenblas.so", "libopenblasp.so.0", "libopenblaso.so.0")


def let_threads_sleep() -> None:
    """Let OpenBLAS's threads go to sleep after 2^14 cycles without work; call it before the library is loaded.

    By default they look for work for 2^26 cycles, some 20 ms, and meanwhile take a core from MLX's own thread: on
    two cores a decode step of 32 rows takes 49 ms in place of 43. The user's setting comes first.
    """
    os.environ.setdefault(IDLE, "14")


def openblas_files(folders: Sequence[Path]) -> Iterator[str]:
    """Files and names to try, best first; `folders` are those of the environment."""
    installed = (folder.glob("libopenblas*.so*") for folder in _folders_of("ngsolve_openblas"))
    for file in sorted(chain.from_iterable(installed)):
        yield str(file)
        if (linked := _beside_fortran(file)) is not None:
            yield str(linked)
    yield from (str(folder / name) for folder in folders for name in _NAMES if (folder / name).exists())
    yield from _NAMES


def _folders_of(package: str) -> list[Path]:
    """Folders of an installed package, found without importing it.

    A package without `__init__.py`, as MLX is, has one for every place that holds a folder of its name: the working
    directory too, if there is a folder `mlx`.
    """
    spec = find_spec(package)
    return [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]


def _beside_fortran(library: Path) -> Path | None:
    """The library in a folder with a Fortran runtime; None if MLX's wheel has none or the folder cannot be written.

    The package's library needs libgfortran.so.5 and looks for it in its own folder, then in the system, where few
    machines have it. MLX's CPU wheel bundles it under another name, so links to both are put into one folder.
    """
    bundled = [folder.parent / "mlx_cpu.libs" for folder in _folders_of("mlx")]
    fortran = next((file for folder in bundled for file in folder.glob("libgfortran-*.so*")), None)
    if fortran is None:
        return None
    links = {library.name: library, "libgfortran.so.5": fortran}
    links |= {each.name: each for each in fortran.parent.glob("libquadmath-*.so*")}
    key = hashlib.sha256(repr(sorted(links.items())).encode()).hexdigest()[:12]
    folder = own_cache() / f"openblas-{key}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, target in links.items():
            with suppress(FileExistsError):
                (folder / name).symlink_to(target)
    except OSError:
        return None
    return folder / library.name
