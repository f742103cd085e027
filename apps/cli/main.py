"""The `mlx-suite` program: its commands, and what errors look like.

Exit codes: 0 done, 1 our mistake (a traceback), 2 something the user can mend, 130 stopped with
Ctrl-C.
"""

from __future__ import annotations

import sys

import typer

from mlx_suite.runtime.backend import explain_import_error
from mlx_suite.runtime.errors import UserError

from .doctor import doctor
from .models import models_app

app = typer.Typer(
    name="mlx-suite",
    help="Llama 3 and Gemma 2 on MLX: generate, make instruction data with Magpie, train.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(doctor)
app.add_typer(models_app)


def main() -> None:
    """Run the command line and leave with its exit code."""
    try:
        app()
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
