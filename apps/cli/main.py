"""The `mlx-suite` program: its commands and error output.

Exit codes: 0 success, 1 a bug (with a traceback), 2 an error the user can fix, 130 stopped with Ctrl-C, 141 stdout
closed by its reader.
"""

import difflib
import errno
import os
import re
import shlex
import sys
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

import mlx_suite
from mlx_suite.runtime.backend import explain_import_error
from mlx_suite.runtime.errors import UserError

from .help import new_app
from .menu import Menu

SUMMARY = "Llama 3, Gemma and Qwen 3 on MLX: generate, chat, make instruction data with Magpie, finetune, judge."

app = new_app("mlx-suite", SUMMARY, cls=Menu)


def _show_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"mlx-suite {mlx_suite.__version__}, mlx {version('mlx')}, mlx-lm {version('mlx-lm')}")
        raise typer.Exit


@app.callback(help=SUMMARY)
def root(
    show_version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the versions and exit.")
    ] = False,
) -> None:
    """The options of the program itself."""


def main() -> None:
    """The `mlx-suite` program."""
    run_app(app)


def run_app(program: typer.Typer) -> None:
    """Run a command line and exit with its code."""
    try:
        # Not standalone, so that usage errors are formatted like all others and exit codes are returned.
        code = program(standalone_mode=False)
        sys.stdout.flush()  # while errors can still be explained
        sys.exit(code if isinstance(code, int) else 0)
    except UserError as error:
        _leave(error)
    except TyperException as error:
        if error.message.startswith("Usage: "):  # the help of a group, called without a command
            print(error.message, file=sys.stderr)
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
        if isinstance(leaving.__context__, BrokenPipeError):  # Typer and Rich catch it first and exit with 1
            _leave_without_reader()
        raise
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        where = str(error.filename or "standard output or a temporary file")
        _leave(UserError("The disk is full", where=where, fix="free some space, then run the same command again"))


def _leave_without_reader() -> None:
    """Discard unwritten output, which would make Python print an error on exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)
    sys.exit(141)


def _explain_usage(error: TyperException) -> UserError:
    """Convert a usage error into a UserError with one fix."""
    context, parameter = getattr(error, "ctx", None), getattr(error, "param", None)
    where = " / ".join(parameter.opts) if parameter else ""
    command = context.command_path if context else "mlx-suite"
    what = getattr(error, "message", "") or str(error)
    if isinstance(error, typer.BadParameter) and not error.message and parameter:
        what = f"{parameter.opts[0] if parameter.param_type_name == 'option' else parameter.name.upper()} is missing"
    what = what.partition(" Did you mean")[0].rstrip(".")
    return UserError(what, where=where, fix=_usage_fix(what, command, context))


def _usage_fix(what: str, command: str, context: Any) -> str:
    """Return one fix for a usage error."""
    unknown = re.match(r"No such command '([^']*)'", what)
    if unknown and context is not None:
        name = unknown.group(1)
        near = difflib.get_close_matches(name, context.command.commands, n=1, cutoff=0.7)
        if near:
            return f"did you mean {command} {near[0]}?"
        if command.endswith(" magpie"):
            return f"magpie is a group of commands: {command} run {name} …"
    extra = re.search(r"unexpected extra argument\S* \((.*)\)", what)
    if extra and command.endswith(" generate"):
        prompt = f"{context.params['prompt']} {extra.group(1)}"
        return f"put the prompt in quotes: {command} {context.params['model']} {shlex.quote(prompt)}"
    return f"{command} --help shows the usage"


def _leave(error: UserError) -> None:
    print(error, file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
