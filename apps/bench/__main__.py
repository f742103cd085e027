"""`python -m mlx_suite_apps.bench device`: correctness and speed on this machine, as tables and one JSON file."""

from pathlib import Path
from typing import Annotated

import typer

from ..cli.main import run_app

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Benchmarks outside the `mlx-suite` program. For the others, see mlx-suite bench --help."""


@app.command()
def device(
    out: Annotated[Path, typer.Option(metavar="FILE", help="Output file, in JSON.")] = Path("device.json"),
    minutes: Annotated[float, typer.Option(min=0.01, help="Time budget; what does not fit is skipped.")] = 8.5,
    tiny: Annotated[bool, typer.Option("--tiny", help="Use tiny shapes, to test the script.")] = False,
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
