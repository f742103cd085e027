"""Where OpenBLAS is found: in PyPI's `ngsolve-openblas` package, the environment, or the system."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from .files import own_cache

_NAMES = ("libopenblas.so.0", "libopenblas.so", "libopenblasp.so.0", "libopenblaso.so.0")


def openblas_files(folders: Sequence[Path]) -> Iterator[str]:
    """Files and names to try, best first; `folders` are those of the environment."""
    for file in sorted(_folder_of("ngsolve_openblas").glob("libopenblas*.so*")):
        yield str(file)
        if (linked := _beside_fortran(file)) is not None:
            yield str(linked)
    yield from (str(folder / name) for folder in folders for name in _NAMES if (folder / name).exists())
    yield from _NAMES


def _folder_of(package: str) -> Path:
    """The folder of an installed package, found without importing it; one that does not exist if there is none."""
    spec = find_spec(package)
    return Path(next(iter((spec and spec.submodule_search_locations) or ["/nonexistent"])))


def _beside_fortran(library: Path) -> Path | None:
    """The library in a folder with a Fortran runtime; None if MLX's wheel has none or the folder cannot be written.

    The package's library needs libgfortran.so.5 and looks for it in its own folder, then in the system, where few
    machines have it. MLX's CPU wheel bundles it under another name, so links to both are put into one folder.
    """
    bundled = _folder_of("mlx").parent / "mlx_cpu.libs"
    fortran = next(bundled.glob("libgfortran-*.so*"), None)
    if fortran is None:
        return None
    links = {library.name: library, "libgfortran.so.5": fortran}
    links |= {each.name: each for each in bundled.glob("libquadmath-*.so*")}
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
