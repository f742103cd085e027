"""Choice of the BLAS and the line of advice; every case runs in a child process."""

import json
import os
import shutil
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux loads a BLAS")

REPORT = """
import json
from mlx_suite.runtime.blas import load_blas
blas = load_blas()
print(json.dumps([blas.name, blas.threads, blas.advice]))
"""
SETTINGS = ("MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MLX_SUITE_BLAS")


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `program` without the BLAS settings of the test run."""
    inherited = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    return subprocess.run(
        [sys.executable, "-c", program],
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )


def has_fast_blas() -> bool:
    return json.loads(run(REPORT).stdout)[0] != "bundled"


needs_blas = pytest.mark.skipif(sys.platform.startswith("linux") and not has_fast_blas(), reason="no fast BLAS here")
needs_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")


@needs_blas
def test_a_fast_blas_is_loaded_before_mlx_without_output() -> None:
    done = run(REPORT + "import mlx.core as mx\na = mx.ones((64, 64))\nprint((a @ a)[0, 0].item())")

    report, product = done.stdout.splitlines()
    assert json.loads(report)[0] in {"MKL", "OpenBLAS"}
    assert json.loads(report)[2] is None
    assert product == "64.0"
    assert done.stderr == ""


@needs_blas
@pytest.mark.skipif(find_library("gomp") is None, reason="no GNU OpenMP here")
def test_products_are_right_if_another_library_has_loaded_gnu_openmp() -> None:
    """As after `import torch`; with Intel's OpenMP as well, MKL gave wrong products."""
    program = """
import ctypes
ctypes.CDLL("libgomp.so.1", mode=ctypes.RTLD_GLOBAL)
import mlx_suite, mlx.core as mx, numpy as np
mx.set_default_device(mx.cpu)
a = np.random.RandomState(0).randn(64, 128).astype(np.float32)
print(np.abs(np.array(mx.array(a) @ mx.array(a).T) - a @ a.T).max() < 1e-3)
"""
    assert run(program).stdout == "True\n"


@needs_blas
def test_the_matrix_product_runs_in_the_loaded_library() -> None:
    # Only its work tells which library computed a product: processor time, on one thread, which other programs on the
    # same cores do not change.
    program = """
import time, mlx_suite, mlx.core as mx
a = mx.ones((512, 512)); mx.eval(a @ a)
def seconds():
    start = time.process_time(); mx.eval(a @ a)
    return time.process_time() - start
print(min(seconds() for _ in range(5)))
"""
    loaded = float(run(program, OMP_NUM_THREADS="1").stdout)
    bundled = float(run(program, OMP_NUM_THREADS="1", MLX_SUITE_BLAS="none").stdout)

    assert loaded < bundled / 3


def test_mlx_imported_first_gets_one_line_of_advice_and_works() -> None:
    done = run("import mlx.core\nimport mlx_suite\n" + REPORT)

    assert json.loads(done.stdout)[:2] == ["bundled", 1]
    assert done.stderr == (
        "MLX was imported before mlx_suite, so matrix products run on its slow bundled BLAS: "
        "import mlx_suite before mlx.\n"
    )


def test_none_selects_the_bundled_blas_without_advice() -> None:
    done = run(REPORT, MLX_SUITE_BLAS="none")

    assert json.loads(done.stdout) == ["bundled", 1, None]
    assert done.stderr == ""


def test_without_any_blas_the_advice_says_what_to_install() -> None:
    program = """
import mlx_suite.runtime.blas as blas
blas._candidates = lambda: iter(())
blas.gpu_backend_installed = lambda: False
blas.os.environ.pop("MLX_SUITE_BLAS")
blas.load_blas.cache_clear()
print(blas.load_blas().advice)
"""
    assert run(program, MLX_SUITE_BLAS="none").stdout == (
        "No fast BLAS was found, so matrix products run up to 60 times slower: pip install mkl "
        "(x86-64), or install OpenBLAS (Debian: apt install libopenblas0).\n"
    )


def test_without_any_blas_a_gpu_gets_no_advice_about_the_cpu() -> None:
    program = """
import mlx_suite.runtime.blas as blas
blas._candidates = lambda: iter(())
blas.gpu_backend_installed = lambda: True
blas.os.environ.pop("MLX_SUITE_BLAS")
blas.load_blas.cache_clear()
print(blas.load_blas())
"""
    assert "advice=None" in run(program, MLX_SUITE_BLAS="none").stdout


@needs_blas
def test_a_library_that_is_not_a_blas_is_skipped_with_advice() -> None:
    name, _, advice = json.loads(run(REPORT, MLX_SUITE_BLAS="/no/such.so").stdout)

    assert name in {"MKL", "OpenBLAS"}
    assert advice == f"MLX_SUITE_BLAS=/no/such.so is not a library with cblas_sgemm; {name} runs."


def test_a_library_can_be_named_and_one_that_is_missing_is_told() -> None:
    program = """
import mlx_suite.runtime.blas as blas
blas._FILES = {"MKL": lambda folders: iter(()), "OpenBLAS": lambda folders: iter(())}
blas.gpu_backend_installed = lambda: False
blas.os.environ["MLX_SUITE_BLAS"] = "mkl"
blas.load_blas.cache_clear()
print(blas.load_blas().advice)
"""
    assert run(program, MLX_SUITE_BLAS="none").stdout.startswith("MLX_SUITE_BLAS=mkl is not installed, so matrix ")


@pytest.fixture(scope="module")
def fake_openblas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that looks like OpenBLAS on a machine with 64 cores; it computes nothing."""
    return compile_library(tmp_path_factory.mktemp("fake"), config="OpenBLAS 0.3 NO_AFFINITY")


def compile_library(folder: Path, config: str) -> Path:
    source, library = folder / "blas.c", folder / "libopenblas.so.0"
    source.write_text(
        f"""
        #include <stdlib.h>
        static int threads = 64;
        __attribute__((constructor)) static void start(void) {{
            const char *wanted = getenv("OPENBLAS_NUM_THREADS");
            if (wanted) threads = atoi(wanted);
        }}
        void cblas_sgemm(void) {{}}
        int openblas_get_num_threads(void) {{ return threads; }}
        void openblas_set_num_threads(int count) {{ threads = count; }}
        const char *openblas_get_config(void) {{ return "{config}"; }}
        """
    )
    if shutil.which("gcc") is None:
        pytest.skip("gcc is missing")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


@needs_cores
def test_a_library_that_counts_all_cores_of_the_machine_is_capped_at_the_usable_ones(
    fake_openblas: Path,
) -> None:
    first_two = sorted(os.sched_getaffinity(0))[:2]
    program = f"import os; os.sched_setaffinity(0, {first_two})\n" + REPORT

    report = json.loads(run(program, MLX_SUITE_BLAS=str(fake_openblas)).stdout)

    assert report == ["OpenBLAS", 2, None]


@needs_cores
def test_processes_of_one_launch_share_the_cores(fake_openblas: Path, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts.json"
    hosts.write_text('[["127.0.0.1:32323"], ["127.0.0.1:32324"]]')
    first_two = sorted(os.sched_getaffinity(0))[:2]
    program = f"import os; os.sched_setaffinity(0, {first_two})\n" + REPORT
    launched = {"MLX_RANK": "1", "MLX_HOSTFILE": str(hosts)}

    assert json.loads(run(program, MLX_SUITE_BLAS=str(fake_openblas), **launched).stdout) == ["OpenBLAS", 1, None]


@needs_cores
def test_a_thread_count_below_the_cores_is_kept_with_advice(fake_openblas: Path) -> None:
    first_two = sorted(os.sched_getaffinity(0))[:2]
    program = f"import os; os.sched_setaffinity(0, {first_two})\n" + REPORT
    settings = {"MLX_SUITE_BLAS": str(fake_openblas), "OPENBLAS_NUM_THREADS": "1"}

    done = run(program, **settings)

    advice = "OPENBLAS_NUM_THREADS=1 keeps matrix products on 1 of 2 cores: unset it."
    assert json.loads(done.stdout) == ["OpenBLAS", 1, advice]
    assert done.stderr == advice + "\n"


@needs_cores
def test_a_thread_count_above_the_cores_is_kept_with_advice(fake_openblas: Path) -> None:
    first_two = sorted(os.sched_getaffinity(0))[:2]
    program = f"import os; os.sched_setaffinity(0, {first_two})\n" + REPORT
    settings = {"MLX_SUITE_BLAS": str(fake_openblas), "OPENBLAS_NUM_THREADS": "9"}

    assert json.loads(run(program, **settings).stdout) == [
        "OpenBLAS",
        9,
        "OPENBLAS_NUM_THREADS=9 asks for more threads than the 2 usable cores: unset it.",
    ]


@needs_cores
def test_a_thread_count_for_another_library_is_reported_as_without_effect(
    fake_openblas: Path,
) -> None:
    first_two = sorted(os.sched_getaffinity(0))[:2]
    program = f"import os; os.sched_setaffinity(0, {first_two})\n" + REPORT
    settings = {"MLX_SUITE_BLAS": str(fake_openblas), "MKL_NUM_THREADS": "1"}

    assert json.loads(run(program, **settings).stdout)[2] == (
        "MKL_NUM_THREADS=1 does not reach OpenBLAS, which uses 2 threads: set OPENBLAS_NUM_THREADS."
    )


def test_a_library_with_64_bit_sizes_is_rejected(tmp_path: Path) -> None:
    library = compile_library(tmp_path, config="OpenBLAS 0.3 USE64BITINT")

    advice = json.loads(run(REPORT, MLX_SUITE_BLAS=str(library)).stdout)[2]

    assert advice.startswith(f"MLX_SUITE_BLAS={library} is not a library with cblas_sgemm")


def test_a_preloaded_blas_is_recognised_even_if_mlx_was_imported_first(fake_openblas: Path) -> None:
    done = run("import sys; sys.modules['mlx.core'] = sys\n" + REPORT, LD_PRELOAD=str(fake_openblas))

    assert json.loads(done.stdout)[0] == "OpenBLAS"


@needs_blas
def test_mkl_settings_of_another_program_are_harmless() -> None:
    """64-bit sizes would give wrong results; a missing thread library would end the process."""
    program = REPORT + "import mlx.core as mx\na = mx.ones((64, 64))\nprint((a @ a)[0, 0].item())"
    for settings in ({"MKL_INTERFACE_LAYER": "ILP64"}, {"MKL_THREADING_LAYER": "NONSENSE"}):
        assert run(program, **settings).stdout.splitlines()[1] == "64.0"


def test_the_first_call_decides_for_the_process() -> None:
    program = "from mlx_suite.runtime.blas import load_blas\nprint(load_blas() is load_blas())"

    assert run(program).stdout == "True\n"
