"""Help of every command, on terminals of 80 and 60 columns."""

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import mlx_suite
from mlx_suite_apps.cli.main import app


def paths(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from paths(inner, (*path, name))


ROOT = typer.main.get_command(app)
COMMANDS = list(paths(ROOT))


def command_at(path: tuple[str, ...]) -> Any:
    command: Any = ROOT
    for name in path:
        command = command.commands[name]
    return command


def has_rare_flags(path: tuple[str, ...]) -> bool:
    return any(getattr(param, "hidden", False) for param in command_at(path).params)


def text_of(path: tuple[str, ...], flag: str, columns: int) -> str:
    result = CliRunner(env={"COLUMNS": str(columns)}).invoke(app, [*path, flag], prog_name="mlx-suite")
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("columns", [80, 60])
@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_lines_fit_the_terminal_and_no_flag_is_truncated(path: tuple[str, ...], columns: int) -> None:
    text = text_of(path, "--help-all" if has_rare_flags(path) else "--help", columns)

    words = text.replace(",", " ").split()
    for param in command_at(path).params:
        if param.param_type_name != "argument":
            assert {*param.opts, *param.secondary_opts} <= set(words)
    examples = {line for line in text.splitlines() if line.startswith(("  mlx-suite", "  mlx.launch", "  cat "))}
    assert all(len(line) < columns for line in text.splitlines() if line not in examples)


@pytest.mark.parametrize("path", [path for path in COMMANDS if has_rare_flags(path)], ids=" ".join)
def test_the_short_help_fits_a_screen_and_mentions_help_all(path: tuple[str, ...]) -> None:
    text = text_of(path, "-h", 80)

    assert "--help-all" in text
    assert len(text.splitlines()) <= 45


def test_the_group_lists_its_commands_with_their_full_summary() -> None:
    text = " ".join(text_of(("magpie",), "--help", 60).split())

    for name, command in command_at(("magpie",)).commands.items():
        first = " ".join(command.help.split("\n\n")[0].split())
        assert f"{name} {first}" in text


def test_the_version_is_printed() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.stdout.startswith(f"mlx-suite {mlx_suite.__version__}, mlx ")
