"""The `mlx-suite` program: its commands, and what errors look like.

Exit codes: 0 done, 1 our mistake (a traceback), 2 something the user can mend, 130 stopped with
Ctrl-C, 141 nobody reads the output any more.
"""

from __future__ import annotations

import errno
import os
import sys

import typer
from typer.exceptions import TyperException

from mlx_suite.runtime.backend import explain_import_error
from mlx_suite.runtime.errors import UserError

from .bench import bench_app
from .doctor import doctor
from .evaluate import evaluate
from .export import export_app
from .finetune import finetune
from .fuse import fuse
from .generate import generate
from .judge import judge_app
from .magpie_group import magpie_app
from .models import models_app
from .perplexity import perplexity
from .quantize import quantize

app = typer.Typer(
    name="mlx-suite",
    help="Llama 3 and Gemma 2 on MLX: generate, make instruction data with Magpie, finetune, judge.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command()(doctor)
app.command()(generate)
app.add_typer(magpie_app)
app.command()(finetune)
app.command()(fuse)
app.command()(quantize)
app.add_typer(export_app)
app.add_typer(judge_app)
app.command()(perplexity)
app.command()(evaluate)
app.add_typer(models_app)
app.add_typer(bench_app)


def main() -> None:
    """The `mlx-suite` program."""
    run_app(app)


def run_app(program: typer.Typer) -> None:
    """Run a command line and leave with its exit code."""
    try:
        # Not standalone: errors in the flags are shown like all others, and exit codes come back.
        code = program(standalone_mode=False)
        sys.stdout.flush()  # here, where it can be explained when it fails
        sys.exit(code if isinstance(code, int) else 0)
    except UserError as error:
        _leave(error)
    except TyperException as error:
        if not error.message and getattr(error, "param", None) is None:  # a group without a command has shown its help
            sys.exit(2)
        _leave(_explain_usage(error))
    except typer.Abort:
        sys.exit(130)
    except ImportError as error:
        explained = explain_import_error(error)
        if explained is None:
            raise
        _leave(explained)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        _leave_without_reader()
    except SystemExit as leaving:
        if isinstance(leaving.__context__, BrokenPipeError):  # Typer and Rich see it first and leave with 1
            _leave_without_reader()
        raise
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        where = str(error.filename or "standard output or a temporary file")
        _leave(UserError("The disk is full", where=where, fix="free some space, then run the same command again"))


def _leave_without_reader() -> None:
    """What is still to be written goes nowhere: Python would complain about it on its way out."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)
    sys.exit(141)


def _explain_usage(error: TyperException) -> UserError:
    """What is wrong with the command line, and the command that tells how it is right."""
    context, parameter = getattr(error, "ctx", None), getattr(error, "param", None)
    where = " / ".join(parameter.opts) if parameter else ""
    command = context.command_path if context else "mlx-suite"
    what = getattr(error, "message", "") or str(error)
    if isinstance(error, typer.BadParameter) and not error.message and parameter:
        what = f"{parameter.opts[0] if parameter.param_type_name == 'option' else parameter.name.upper()} is missing"
    return UserError(what.rstrip("."), where=where, fix=f"{command} --help says what is right")


def _leave(error: UserError) -> None:
    print(error, file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
