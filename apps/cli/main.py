"""The `mlx-suite` program: its commands, and what errors look like.

Exit codes: 0 done, 1 our mistake (a traceback), 2 something the user can mend, 130 stopped with
Ctrl-C, 141 nobody reads the output any more.
"""

from __future__ import annotations

import sys

import typer

from mlx_suite.runtime.backend import explain_import_error
from mlx_suite.runtime.errors import UserError

from .bench import bench_app
from .doctor import doctor
from .generate import generate
from .magpie import magpie
from .models import models_app

app = typer.Typer(
    name="mlx-suite",
    help="Llama 3 and Gemma 2 on MLX: generate, make instruction data with Magpie, train.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command()(doctor)
app.command()(generate)
app.command()(magpie)
app.add_typer(models_app)
app.add_typer(bench_app)


def main() -> None:
    """The `mlx-suite` program."""
    run_app(app)


def run_app(program: typer.Typer) -> None:
    """Run a command line and leave with its exit code."""
    try:
        program()
    except UserError as error:
        _leave(error)
    except ImportError as error:
        explained = explain_import_error(error)
        if explained is None:
            raise
        _leave(explained)
    except KeyboardInterrupt:
        sys.exit(130)


def _leave(error: UserError) -> None:
    print(error, file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
