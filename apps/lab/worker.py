"""One of several processes of a lab: `python -m mlx_suite_apps.lab.worker FOLDER` trains what no other one trains."""

from pathlib import Path
from typing import Annotated

import typer

from ..cli.main import run_app
from .lab import work

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def worker(folder: Annotated[Path, typer.Argument(help="Folder of a prepared lab.")]) -> None:
    """Train the open trials of a lab."""
    work(folder)


if __name__ == "__main__":
    run_app(app)
