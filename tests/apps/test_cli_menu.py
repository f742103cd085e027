import subprocess
import sys

import pytest
import typer

from mlx_suite_apps.cli.main import app
from mlx_suite_apps.cli.menu import MENU

ROOT = typer.main.get_command(app)


@pytest.mark.parametrize("name", MENU)
def test_the_menu_says_what_the_command_itself_says_first(name: str) -> None:
    help = ROOT.commands[name].help  # type: ignore[attr-defined]

    assert " ".join(help.split("\n\n")[0].split()).replace("`", "") == MENU[name][1]


def imported_by(*arguments: str) -> set[str]:
    """Names of the modules that are loaded when this command line ends."""
    program = (
        "import atexit, sys\n"
        "from mlx_suite_apps.cli.main import main\n"
        "atexit.register(lambda: print('\\n'.join(sys.modules), file=sys.stderr))\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines())


def test_the_help_imports_neither_mlx_nor_a_command() -> None:
    loaded = imported_by("--help")

    assert not loaded & {"mlx.core", "numpy", "huggingface_hub", "mlx_lm", "transformers", "yaml", "jinja2"}
    assert {name for name in loaded if name.startswith("mlx_suite_apps.")} == {
        "mlx_suite_apps.cli",
        "mlx_suite_apps.cli.help",
        "mlx_suite_apps.cli.main",
        "mlx_suite_apps.cli.menu",
    }


def test_generate_imports_its_own_command_only() -> None:
    loaded = imported_by("generate", "--help")

    assert "mlx_suite_apps.cli.generate" in loaded
    assert not loaded & {"mlx.core", "mlx_suite_apps.cli.magpie", "mlx_suite_apps.cli.finetune"}
