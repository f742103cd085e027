"""The documentation matches the code: help pages, commands, examples, links and the tree of packages."""

import importlib.util
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from mlx_suite_apps.bench.__main__ import app as bench
from mlx_suite_apps.cli.main import app
from mlx_suite_apps.shipped.__main__ import app as shipped
from mlx_suite_apps.shipped.plans import PLANS
from tests.magpie.random_checkpoint import write_checkpoint

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    *(
        f"docs/{name}.md"
        for name in (
            "benchmarks",
            "finetuning",
            "how-it-works",
            "importing",
            "labs/README",
            "magpie",
            "pretraining",
            "real-model",
            "transfer",
        )
    ),
]
PROGRAMS = {"mlx-suite": app, "mlx_suite_apps.shipped": shipped, "mlx_suite_apps.bench": bench}
README = (ROOT / "README.md").read_text(encoding="utf-8")


def fences(page: str, language: str) -> list[str]:
    """Code blocks of one language on a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def shell_lines() -> Iterator[str]:
    """Yield the commands in shell blocks and in inline code."""
    for page in PAGES:
        for block in fences(page, "sh"):
            yield from (line for line in block.splitlines() if line.strip())
        text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for code in re.findall(r"`([^`\n]+)`", text):
            if re.match(r"(mlx-suite [a-z]|make [a-z]|pip install|python )", code):
                yield code


def commands() -> list[list[str]]:
    """Split every command into words, without comments; of a pipe, only the last command."""
    parsed = []
    for line in shell_lines():
        words = shlex.split(line, comments=True)
        while "|" in words:
            words = words[words.index("|") + 1 :]
        parsed.append(words)
    assert len(parsed) > 25
    return parsed


def commands_of(first: str) -> list[list[str]]:
    return [words for words in commands() if words[0] == first]


def check_flags(command: Any, words: list[str], line: list[str]) -> None:
    """Find the subcommand of `words`, then look up every flag."""
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    assert not hasattr(command, "commands") or not words or "|" in words[0], f"no such command: {shlex.join(line)}"
    known = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    for word in words:
        if word.startswith("-") and word != "-":
            assert word.partition("=")[0] in known, f"{word} of: {shlex.join(line)}"


# ---- commands


def test_the_page_of_commands_is_the_output_of_help() -> None:
    done = subprocess.run(
        [sys.executable, "docs/make_commands.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_every_mentioned_command_exists_with_its_flags() -> None:
    named = commands_of("mlx-suite")
    assert len(named) > 10
    for words in named:
        check_flags(typer.main.get_command(app), words[1:], words)


def test_every_mentioned_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    named = {word for words in commands_of("make") for word in words[1:] if "=" not in word}
    assert {"demo", "test", "models"} <= named <= targets
    variables = {word.partition("=")[0] for words in commands_of("make") for word in words[1:] if "=" in word}
    assert all(re.search(rf"^{name} \?=", makefile, flags=re.MULTILINE) for name in variables)


def test_every_mentioned_extra_exists() -> None:
    extras = set(
        tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    )
    named = re.findall(r"'\.\[([a-z0-9,]+)\]'", README)
    assert {name for each in named for name in each.split(",")} == {"cpu", "cuda", "cuda12", "chat", "serve"} <= extras


def test_every_mentioned_python_program_exists_with_its_flags() -> None:
    named = commands_of("python")
    assert named
    for words in named:
        if words[1] != "-m":
            assert (ROOT / words[1]).is_file(), shlex.join(words)
            continue
        module, rest = words[2], words[3:]
        assert importlib.util.find_spec(module) is not None, module
        if module in PROGRAMS:
            check_flags(typer.main.get_command(PROGRAMS[module]), rest, words)
        for path in (word for word in rest if word.endswith(".py")):
            assert (ROOT / path).is_file(), path


# ---- examples


@pytest.fixture(scope="module")
def model_name(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The shipped model, or random weights if it is missing."""
    if (ROOT / "models" / "tiny-llama3" / "config.json").is_file():
        return "tiny-llama3"
    return str(write_checkpoint(tmp_path_factory.mktemp("models") / "random"))


@pytest.mark.parametrize("page", ["README.md", "docs/how-it-works.md"])
def test_the_python_examples_run(page: str, model_name: str, capsys: pytest.CaptureFixture[str]) -> None:
    examples = fences(page, "python")
    assert len(examples) == {"README.md": 2, "docs/how-it-works.md": 1}[page]
    for example in examples:
        assert '"tiny-llama3"' in example
        exec(compile(example.replace('"tiny-llama3"', repr(model_name)), page, "exec"), {"__name__": "example"})
    lines = capsys.readouterr().out.splitlines()
    if page == "README.md":
        shape, *rows = lines
        assert re.fullmatch(r"\(1, \d+, \d+\)", shape)
        assert sorted(int(row.split()[0]) for row in rows) == list(range(8))
    else:
        assert lines[0] in ("Monday", "Friday", "Sunday")


# ---- links and paths


@pytest.mark.parametrize("page", PAGES)
def test_links_within_the_repository_have_a_target(page: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_tree_lists_every_package_and_nothing_else() -> None:
    [tree] = [block for block in fences("README.md", "text") if block.startswith("apps/")]
    named, above = set(), [""]
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        above = [*above[: depth + 1], line.split()[0]]
        named.add("".join(above[1:]).rstrip("/"))
    packages = {
        str(path.parent.relative_to(ROOT))
        for top in ("apps", "mlx_suite", "models")
        for path in (ROOT / top).rglob("__init__.py")
    }
    others = {"docs", "requirements", "tests", "mlx_suite/loading.py"}
    assert named == packages | others
    assert all((ROOT / each).exists() for each in named)


@pytest.mark.parametrize("page", PAGES)
def test_the_files_mentioned_on_a_page_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    # A module's path may start at its package; paths under a top-level folder start at the root.
    modules = set(re.findall(r"`((?:[a-z0-9_]+/)*[a-z0-9_]+\.py)`", text))
    paths = set(re.findall(r"`((?:apps|docs|mlx_suite|models|requirements|tests)/[\w./-]*)`", text))
    assert len(modules) > 10 or page != "docs/how-it-works.md"
    for name in modules | paths:
        assert any((ROOT / part / name).exists() for part in ("", "mlx_suite", "mlx_suite/engine")), name


def test_the_readme_mentions_the_shipped_models() -> None:
    for name in PLANS:
        assert f"`{name}`" in README
