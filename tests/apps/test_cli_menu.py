import subprocess
import sys
from pathlib import Path

import pytest
import typer

from mlx_suite_apps.cli.main import app
from mlx_suite_apps.cli.menu import MENU

ROOT = typer.main.get_command(app)


@pytest.mark.parametrize("name", MENU)
def test_the_menu_says_what_the_command_itself_says_first(name: str) -> None:
    help = ROOT.commands[name].help  # type: ignore[attr-defined]

    assert " ".join(help.split("\n\n")[0].split()).replace("`", "") == MENU[name][1]


def run(*arguments: str) -> tuple[str, set[str]]:
    """The output of this command line, and the names of the modules that are loaded when it ends."""
    program = (
        "import atexit, sys\n"
        "from mlx_suite_apps.cli.main import main\n"
        "atexit.register(lambda: print('\\n'.join(sys.modules), file=sys.stderr))\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, set(done.stderr.splitlines())


HEAVY = {
    *("asyncio", "datasets", "fastapi", "gguf", "httpx", "httpx2", "huggingface_hub.hf_api", "lm_eval", "matplotlib"),
    *("mlx_lm", "pandas", "prompt_toolkit", "pyarrow", "requests", "sentencepiece", "torch", "tqdm", "transformers"),
    *("uvicorn", "yaml"),
}
"""Modules that generation from a folder has no use for."""


def test_the_help_imports_neither_mlx_nor_a_command() -> None:
    _, loaded = run("--help")

    assert not loaded & {"mlx.core", "numpy", "huggingface_hub", "mlx_lm", "transformers", "yaml", "jinja2"}
    assert not loaded & {"pydantic", "rich", "email", "importlib.metadata"}
    assert {name for name in loaded if name.startswith("mlx_suite_apps.")} == {
        "mlx_suite_apps.cli",
        "mlx_suite_apps.cli.help",
        "mlx_suite_apps.cli.main",
        "mlx_suite_apps.cli.menu",
    }


def test_the_help_of_a_command_imports_that_command_only() -> None:
    _, loaded = run("generate", "--help")

    assert "mlx_suite_apps.cli.generate" in loaded
    assert not loaded & {"mlx.core", "mlx_suite_apps.cli.magpie", "mlx_suite_apps.cli.finetune"}


def test_generation_from_a_folder_imports_neither_the_hub_client_nor_a_server(random_model: Path) -> None:
    written, loaded = run("generate", str(random_model), "Why?", "--max-tokens", "4")

    assert written
    assert "mlx_suite.engine.engine" in loaded
    assert loaded & HEAVY == set()
    packages = {".".join(name.split(".")[:2]) for name in loaded if name.startswith("mlx_suite.")}
    assert not packages & {"mlx_suite.adapters", "mlx_suite.curation", "mlx_suite.magpie", "mlx_suite.training"}
