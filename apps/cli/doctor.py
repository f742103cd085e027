"""`mlx-suite doctor`: this machine, the models that fit on it, and advice to make it faster."""

from __future__ import annotations

import json as json_format

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mlx_suite.runtime.machine import Fit, MachineReport, examine
from mlx_suite.runtime.memory import human_bytes

from .flags import AsJson

_BACKENDS = {"metal": "Metal", "cuda": "CUDA", "cpu": "CPU"}


def doctor(
    json: AsJson = False,
) -> None:
    """Show the machine, backend, BLAS, memory, measured speeds, and which models fit.

    Takes about four seconds. Busy cores lower the speeds. Sizes are decimal (1 GB = 10^9 bytes). "tok/s" is the limit
    set by memory bandwidth for one conversation; actual decoding reaches 60 to 90 % of it.
    """
    with Console(stderr=True).status("measuring matrix products and memory"):
        report = examine()
    if json:
        print(json_format.dumps(report.as_dict(), indent=2))
        return
    console = Console(highlight=False)
    _print_section(console, "Machine", _machine(report))
    _print_section(console, "Measured", _measured(report))
    console.print("What fits", style="bold")
    console.print(_fits(report.fits))
    if report.advice:
        console.print("Advice", style="bold")
        for line in report.advice:
            console.print(Padding(Text(line, style="yellow"), (0, 0, 0, 2)))


def _machine(report: MachineReport) -> list[tuple[str, str]]:
    device = report.device
    rows = [
        ("processor", f"{report.processor} ({report.machine}), {report.cores} usable cores"),
        ("system", f"{report.system}, Python {report.python}"),
        ("MLX", f"{report.mlx}, mlx-lm {report.mlx_lm}"),
        ("backend", _BACKENDS[device.kind] + (f", {device.name}" if device.kind != "cpu" else "")),
    ]
    if device.blas:
        rows.append(("BLAS", _blas(report)))
        if device.blas.path:
            rows.append(("", str(device.blas.path)))
        if report.blas_choice and report.blas_choice.name == device.blas.name:
            rows.append(("", str(report.blas_choice)))
        rows.append(("decoding", str(report.products)))
        rows.append(("compiler", report.compiler or "g++ not found: mx.compile is off"))
    memory = f"{human_bytes(report.memory_bytes)}, {human_bytes(report.available_bytes)} available"
    if device.memory_bytes != report.memory_bytes:
        memory += f"; GPU {human_bytes(device.memory_bytes)}"
    rows.append(("memory", memory))
    rows.append(("working set", f"{human_bytes(device.working_set_bytes)} for models and caches"))
    return rows


def _blas(report: MachineReport) -> str:
    blas = report.device.blas
    assert blas is not None
    threads = f", {blas.threads} thread{'' if blas.threads == 1 else 's'}" if blas.threads else ""
    speedup = f", {report.blas_speedup:.0f} times the bundled one" if report.blas_speedup else ""
    return f"{blas.name}{threads}{speedup}"


def _measured(report: MachineReport) -> list[tuple[str, str]]:
    speed = report.speed
    rows = [("matrix product", f"{speed.gemm_float32:,.0f} GFLOP/s float32")]
    if speed.gemm_bfloat16:
        rows.append(("", f"{speed.gemm_bfloat16:,.0f} GFLOP/s bfloat16"))
    if report.bundled_gemm:
        rows.append(("bundled BLAS", f"{report.bundled_gemm:,.1f} GFLOP/s float32"))
    rows.append(("memory, copy", f"{speed.copy_bandwidth:,.0f} GB/s"))
    rows.append(("matrix × vector", f"{speed.gemv_bandwidth:,.0f} GB/s"))
    return rows


def _fits(fits: tuple[Fit, ...]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="dim")
    table.add_column("  model", no_wrap=True)
    table.add_column("weights", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("context", justify="right", no_wrap=True)
    table.add_column("tok/s", justify="right", no_wrap=True)
    for fit in fits:
        row = [f"  {fit.model}", fit.precision, human_bytes(fit.weight_bytes)]
        if fit.fits:
            table.add_row(*row, f"{fit.tokens:,}", f"≤ {fit.ceiling:.{0 if fit.ceiling >= 9.5 else 1}f}")
        else:
            table.add_row(*row, "too big", "", style="dim")
    return table


def _print_section(console: Console, title: str, rows: list[tuple[str, str]]) -> None:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(f"  {name}", Text(value))
    console.print(title, style="bold")
    console.print(table)
