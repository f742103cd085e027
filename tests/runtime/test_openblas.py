"""OpenBLAS of a Python package is loaded with the Fortran runtime that MLX bundles."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlx_suite.runtime import openblas as module
from mlx_suite.runtime.openblas import openblas_files

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux loads a BLAS")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages: OpenBLAS, and MLX with its libraries."""
    library = tmp_path / "site" / "ngsolve_openblas" / "libopenblasp-r0.3.33.so"
    bundled = tmp_path / "site" / "mlx_cpu.libs"
    for file in (library, bundled / "libgfortran-1f.so.5.0.0", bundled / "libquadmath-2a.so.0.0.0"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(file.name)
    folders = [tmp_path / "working", tmp_path / "site"]  # a folder `mlx` in the working directory is in the way
    monkeypatch.setattr(module, "_folders_of", lambda package: [folder / package for folder in folders])
    monkeypatch.setattr(module, "own_cache", lambda: tmp_path / "cache")
    return tmp_path / "site"


def test_the_library_is_tried_alone_then_beside_mlx_s_fortran_runtime_then_in_the_environment_and_system(
    packages: Path, tmp_path: Path
) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libopenblas.so").touch()
    alone, linked, environment, *system = openblas_files([tmp_path / "lib"])
    assert alone == str(packages / "ngsolve_openblas" / "libopenblasp-r0.3.33.so")
    assert environment == str(tmp_path / "lib" / "libopenblas.so")
    assert system[0] == "libopenblas.so.0"
    assert {link.name: link.read_text() for link in Path(linked).parent.iterdir()} == {
        "libopenblasp-r0.3.33.so": "libopenblasp-r0.3.33.so",
        "libgfortran.so.5": "libgfortran-1f.so.5.0.0",
        "libquadmath-2a.so.0.0.0": "libquadmath-2a.so.0.0.0",
    }
    assert list(openblas_files([]))[1] == linked  # a second run finds the links


def test_without_a_fortran_runtime_or_a_cache_folder_only_the_library_itself_is_tried(
    packages: Path, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert sum("ngsolve" in file or "cache" in file for file in openblas_files([])) == 1
    (tmp_path / "cache").unlink()
    (packages / "mlx_cpu.libs" / "libgfortran-1f.so.5.0.0").unlink()
    assert sum("ngsolve" in file or "cache" in file for file in openblas_files([])) == 1


@pytest.mark.skipif(not module._folders_of("ngsolve_openblas"), reason="ngsolve-openblas is not installed")
def test_the_package_s_library_computes_mlx_s_products_beside_a_folder_named_mlx(tmp_path: Path) -> None:
    program = """
from mlx_suite.runtime.blas import load_blas
import mlx.core as mx
print(load_blas().name, load_blas().advice, (mx.ones((64, 64)) @ mx.ones((64, 64)))[0, 0].item())
"""
    (tmp_path / "mlx").mkdir()
    inherited = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=inherited | {"MLX_SUITE_BLAS": "OpenBLAS"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert done.stdout == "OpenBLAS None 64.0\n"
