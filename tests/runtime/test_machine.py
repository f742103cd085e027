"""The report of `mlx-suite doctor`, as data and on a terminal of 60 columns."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import pytest
from typer.testing import CliRunner

from mlx_suite.runtime import machine
from mlx_suite.runtime.benchmark import Speed, best_time, gemm_gflops
from mlx_suite.runtime.blas import Blas
from mlx_suite.runtime.blas_choice import BlasChoice, BlasTimes
from mlx_suite.runtime.device import Device
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.few_rows import Forms
from mlx_suite.runtime.machine import MachineReport, advise, what_fits
from mlx_suite_apps.cli import doctor, main

MAC = Device(
    kind="metal",
    name="Apple M4",
    memory_bytes=24_000_000_000,
    working_set_bytes=16_000_000_000,
    blas=None,
)
SERVER = Device(
    kind="cpu",
    name="Xeon",
    memory_bytes=25_000_000_000,
    working_set_bytes=21_250_000_000,
    blas=Blas(name="MKL", path=Path("/venv/lib/libmkl_rt.so.3"), threads=2),
)
FAST = Speed(gemm_float32=250.0, gemm_bfloat16=None, copy_bandwidth=11.0, gemv_bandwidth=28.0)
RATIOS = BlasTimes(one_row=1.94, eight_rows=1.1, attention=0.96, long_input=1.0)
SLOW = Speed(gemm_float32=3.0, gemm_bfloat16=None, copy_bandwidth=3.0, gemv_bandwidth=5.0)


def report(advice: tuple[str, ...] = ()) -> MachineReport:
    return MachineReport(
        machine="x86_64",
        processor="Xeon",
        cores=2,
        system="Debian 12",
        python="3.11.7",
        mlx="0.32.4",
        mlx_lm="0.32.2",
        device=SERVER,
        products=Forms(),
        blas_choice=BlasChoice(name="MKL", other="OpenBLAS", ratios=RATIOS),
        compiler="/usr/bin/g++",
        memory_bytes=25_000_000_000,
        available_bytes=20_000_000_000,
        speed=FAST,
        bundled_gemm=5.0,
        fits=what_fits(SERVER, 28.0),
        advice=advice,
    )


def test_a_mac_is_rated_with_4_bit_and_bf16() -> None:
    fits = {(fit.model, fit.precision): fit for fit in what_fits(MAC, 120.0)}

    assert len(fits) == 24
    assert fits["Llama 3 8B", "4-bit"].fits
    assert fits["Llama 3 8B", "4-bit"].tokens == 8192
    assert round(fits["Llama 3 8B", "4-bit"].ceiling) == 28
    assert round(fits["Gemma 2 9B", "4-bit"].ceiling) == 23
    assert round(fits["Gemma 2 2B", "4-bit"].ceiling) == 82
    assert not fits["Llama 3 8B", "bf16"].fits
    assert fits["Llama 3 8B", "bf16"].tokens == 0


def test_a_cpu_is_rated_with_float32_only() -> None:
    fits = {fit.model: fit for fit in what_fits(SERVER, 28.0)}

    assert {fit.precision for fit in fits.values()} == {"float32"}
    assert fits["Llama 3.2 1B"].fits
    assert not fits["Llama 3 8B"].fits


def test_a_well_set_up_machine_gets_no_advice() -> None:
    assert advise(SERVER, FAST, "/usr/bin/g++") == []
    assert advise(MAC, FAST, None) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="advice for Linux")
def test_slow_products_and_a_missing_compiler_give_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLX_SUITE_BLAS", raising=False)
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)

    assert advise(SERVER, SLOW, None) == [
        "3 GFLOP/s is slow for MKL: are the cores busy? If not, pip install mkl (x86-64), or "
        "install OpenBLAS (Debian: apt install libopenblas0).",
        "g++ is missing, so mx.compile does nothing here: install it (Debian: apt install g++).",
    ]


def test_the_bundled_blas_is_measured_in_a_child_process() -> None:
    bundled = machine._bundled_gemm()

    assert bundled is not None
    assert 0.5 < bundled < 5000


def test_a_measurement_takes_the_fastest_run() -> None:
    assert gemm_gflops("float32", 0.01) > 0.5
    runs: list[int] = []
    assert best_time(lambda: (runs.append(1), mx.zeros(1))[1], 0.0) >= 0.0
    assert len(runs) == 2


def test_doctor_fits_into_60_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: report(advice=("g++ is missing.",)))
    monkeypatch.setenv("COLUMNS", "60")

    shown = CliRunner().invoke(main.app, ["doctor"])

    assert shown.exit_code == 0
    assert [line.rstrip() for line in shown.stdout.splitlines()] == [
        "Machine",
        "  processor    Xeon (x86_64), 2 usable cores",
        "  system       Debian 12, Python 3.11.7",
        "  MLX          0.32.4, mlx-lm 0.32.2",
        "  backend      CPU",
        "  BLAS         MKL, 2 threads, 50 times the bundled one",
        "               /venv/lib/libmkl_rt.so.3",
        "               1.9x at 1 row, 1.1x at 8 rows, 1.0x in",
        "               attention, 1.0x in long inputs beside",
        "               OpenBLAS",
        "  decoding     products plain",
        "  compiler     /usr/bin/g++",
        "  memory       25.0 GB, 20.0 GB available",
        "  working set  21.2 GB for models and caches",
        "Measured",
        "  matrix product   250 GFLOP/s float32",
        "  bundled BLAS     5.0 GFLOP/s float32",
        "  memory, copy     11 GB/s",
        "  matrix × vector  28 GB/s",
        "What fits",
        "  model         weights     size  context  tok/s",
        "  Llama 3.2 1B  float32  4.94 GB  131,072  ≤ 5.7",
        "  Llama 3.2 3B  float32  12.9 GB   36,616  ≤ 2.2",
        "  Llama 3 8B    float32  32.1 GB  too big",
        "  Gemma 2 2B    float32  10.5 GB    8,192  ≤ 2.7",
        "  Gemma 2 9B    float32  37.0 GB  too big",
        "  Gemma 2 27B   float32   109 GB  too big",
        "  Gemma 3 1B    float32  4.00 GB   32,768  ≤ 7.0",
        "  Gemma 3 4B    float32  15.5 GB  131,072  ≤ 1.8",
        "  Gemma 3 12B   float32  47.1 GB  too big",
        "  Qwen 3 0.6B   float32  2.38 GB   40,960   ≤ 12",
        "  Qwen 3 4B     float32  16.1 GB   17,497  ≤ 1.7",
        "  Qwen 3 8B     float32  32.8 GB  too big",
        "Advice",
        "  g++ is missing.",
    ]


def test_doctor_prints_one_json_object_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "examine", report)

    facts = json.loads(CliRunner().invoke(main.app, ["doctor", "--json"]).stdout)

    assert facts["device"]["blas"] == {
        "name": "MKL",
        "path": "/venv/lib/libmkl_rt.so.3",
        "threads": 2,
        "advice": None,
    }
    assert facts["blas_worth"] == 50.0
    assert facts["blas_choice"]["ratios"]["one_row"] == 1.94
    assert facts["speed"]["gemm_float32"] == 250.0
    assert facts["fits"][2]["model"] == "Llama 3 8B"
    assert facts["fits"][2]["weight_bytes"] == 32_121_044_992


def test_the_faster_library_is_advised_while_another_is_loaded() -> None:
    choice = BlasChoice(name="OpenBLAS", other="MKL", ratios=RATIOS)
    assert advise(SERVER, FAST, "/usr/bin/g++", choice) == [
        "OpenBLAS is faster here (1.9x at 1 row, 1.1x at 8 rows, 1.0x in attention, 1.0x in long inputs beside MKL): "
        "the next command loads it instead of MKL."
    ]
    assert advise(SERVER, FAST, "/usr/bin/g++", replace(choice, name="MKL", other="OpenBLAS")) == []


def test_a_user_error_is_one_block_with_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> MachineReport:
        raise UserError("MLX is installed without a backend", "python", "pip install it")

    monkeypatch.setattr(doctor, "examine", fail)
    monkeypatch.setattr(sys, "argv", ["mlx-suite", "doctor"])

    with pytest.raises(SystemExit) as left:
        main.main()

    captured = capsys.readouterr()
    assert left.value.code == 2
    assert captured.out == ""
    assert captured.err.endswith("error: MLX is installed without a backend\nwhere: python\nfix:   pip install it\n")


def test_ctrl_c_exits_with_130_and_no_traceback() -> None:
    program = """
import os, signal, sys
from mlx_suite_apps.cli import doctor, main
doctor.examine = lambda: os.kill(os.getpid(), signal.SIGINT)
sys.argv = ["mlx-suite", "doctor"]
main.main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.returncode == 130
    assert "Traceback" not in done.stderr
