"""`python -m mlx_suite_apps.bench device`: correctness and speed of this machine, as one JSON file and tables."""

from pathlib import Path
from typing import Annotated

import typer

from ..cli.main import run_app

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Benchmarks that are not part of the command line. The others: mlx-suite bench --help."""


@app.command()
def device(
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the JSON goes.")] = Path("device.json"),
    minutes: Annotated[float, typer.Option(min=0.1, help="Time budget. What would exceed it is skipped.")] = 8.5,
    tiny: Annotated[
        bool, typer.Option("--tiny", help="Tiny shapes: a test of the script, not of the machine.")
    ] = False,
) -> None:
    """Check correctness and measure speed on Metal, CUDA or the CPU, in less than nine minutes.

    Correctness: bf16 and 4-bit models of every family against fp32 on the CPU. Speed: decode and prefill at 1, 8 and
    32 rows for models of 1B, 8B and 9B parameters, LoRA and QLoRA steps at 8B, packed attention. All weights are
    random, so nothing is downloaded.
    """
    from .device import measure_device, save_report, show_report

    report = measure_device(minutes=minutes, tiny=tiny, on_progress=lambda what: typer.echo(what, err=True))
    save_report(report, out)
    show_report(report)
    typer.echo(f"report     {out}")


if __name__ == "__main__":
    run_app(app)
