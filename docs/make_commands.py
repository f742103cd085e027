"""Writes docs/commands.md from the `--help` of every command, 80 columns wide and without colours.

`python docs/make_commands.py` writes the page; with `--check` it only leaves with 1 if the page says something else.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

# What decides how help looks is read when the libraries are imported.
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

What every command says to `--help`. Written by `python docs/make_commands.py`; a test fails when the two differ.

Every command leaves with 0 when it is done, 2 when something went wrong that you can mend (one block on stderr says
what, where and how), 130 when it was stopped with Ctrl-C, 141 when nobody reads its output any more.
"""


def paths(command: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The command itself and all below it, in the order of `--help`."""
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from paths(inner, (*path, name))


def help_of(program: str, command: typer.Typer, path: tuple[str, ...]) -> str:
    """What the command prints, without the blank ends of its lines."""
    result = CliRunner().invoke(command, [*path, "--help"], prog_name=program, catch_exceptions=False)
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
        print("docs/commands.md is not what the commands say: python docs/make_commands.py", file=sys.stderr)
        return 1
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
