"""Requirements of an installation; the wheel itself is built by hand before a release."""

import tomllib
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import mlx_suite

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_every_folder_of_code_is_a_package() -> None:
    """A folder without `__init__.py` is missing from the wheel and invisible to import-linter."""
    folders = {file.parent for top in ("mlx_suite", "apps") for file in (ROOT / top).rglob("*.py")}

    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_the_installed_command_runs_the_code_of_this_folder() -> None:
    (program,) = entry_points(group="console_scripts", name="mlx-suite")

    assert program.value == "mlx_suite_apps.cli.main:main"
    assert callable(program.load())
    assert mlx_suite.__version__ == PROJECT["version"] == "0.1.0"


def test_every_dependency_has_a_minimum_and_a_maximum_version() -> None:
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]

    for line in [*PROJECT["dependencies"], *extras]:
        if line.startswith("mlx-suite["):  # an extra that includes other extras
            continue
        assert ">=" in line and ",<" in line, line


def test_the_lock_file_has_exact_versions_and_no_urls() -> None:
    lines = (ROOT / "requirements" / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]

    assert all(pin.count("==") == 1 and "/" not in pin and "@" not in pin for pin in pins)
    assert {"mlx==0.32.4", "mlx-cpu==0.32.4", "mlx-metal==0.32.4", "mlx-lm==0.32.2"} <= set(pins)


def test_everything_that_the_chat_page_needs_imports_and_is_locked() -> None:
    modules = {
        "fastapi": "fastapi",
        "uvicorn": "uvicorn",
        "uvloop": "uvloop",
        "markdown-it-py": "markdown_it",
        "pygments": "pygments",
        "nh3": "nh3",
        "prometheus-client": "prometheus_client",
        "llguidance": "llguidance",
    }
    names = [line.split(">=")[0] for line in PROJECT["optional-dependencies"]["serve"]]
    pins = (ROOT / "requirements" / "constraints.txt").read_text().lower().replace("_", "-")

    assert names == list(modules)
    for name, module in modules.items():
        assert import_module(module)
        assert f"\n{name}==" in pins
