"""Writes docs/commands.md from the help of every command, 80 columns wide and without colours.

`python docs/make_commands.py` writes the page; with `--check` it exits with 1 if the page is out of date.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

# The libraries read these when they are imported.
for _name in ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TERMINAL_WIDTH"):
    os.environ.pop(_name, None)
os.environ.update(COLUMNS="80", TERM="dumb", NO_COLOR="1")

import typer  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from mlx_suite_apps.cli.main import app  # noqa: E402
from mlx_suite_apps.shipped.__main__ import app as recipes  # noqa: E402

PAGE = Path(__file__).with_name("commands.md")
PROGRAMS = {"mlx-suite": app, "python -m mlx_suite_apps.shipped": recipes}
HEAD = """# Commands

The help of every command, with all flags. Written by `python docs/make_commands.py`; a test fails when the two differ.

Exit codes: 0 success, 1 from `models check`: the model does not run here, 2 a mistake you can fix (one block on stderr
says what, where and how), 130 stopped with Ctrl-C, 141 the output is no longer read.
"""


def paths(command: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The command itself and all commands below it, in the order of the help."""
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from paths(inner, (*path, name))


def help_of(program: str, command: typer.Typer, path: tuple[str, ...]) -> str:
    """What the command prints with all its flags, without trailing whitespace."""
    found = typer.main.get_command(command)
    for name in path:
        found = found.commands[name]  # type: ignore[attr-defined]
    flag = "--help-all" if any(getattr(param, "hidden", False) for param in found.params) else "--help"
    result = CliRunner().invoke(command, [*path, flag], prog_name=program, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return "\n".join(line.rstrip() for line in result.stdout.strip().splitlines())


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for program, command in PROGRAMS.items():
        for path in paths(typer.main.get_command(command)):
            title = " ".join((program, *path))
            parts.append(f"## `{title}`\n\n```text\n{help_of(program, command, path)}\n```\n")
    return "\n".join(parts)


def main() -> int:
    wanted = page()
    if sys.argv[1:] == ["--check"]:
        if PAGE.exists() and PAGE.read_text(encoding="utf-8") == wanted:
            return 0
        print("docs/commands.md is out of date: run python docs/make_commands.py", file=sys.stderr)
        return 1
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
