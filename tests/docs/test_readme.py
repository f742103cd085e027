"""Outputs and rows in the README match the programs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mlx_suite.curation.dataset import instruction_of, response_of
from mlx_suite.data.read.sources import ACCEPTED_FILE
from mlx_suite.evaluate.microworld import check_dataset
from mlx_suite.microworld import Verdict, check, make_world
from mlx_suite.runtime.journal import read_journal

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
OUTPUTS = re.findall(r"<!-- output: (.+?) -->\n```text\n(.*?)```", README, flags=re.DOTALL)
SHOWN_ROWS = re.findall(
    r"^\| (.+?) \| (.+?) \|$", README.partition("<!-- rows:")[2].partition("\n\n")[0], re.MULTILINE
)[1:]


def program(command: str, cwd: Path = ROOT) -> str:
    """Run an mlx-suite command; returns its standard output."""
    words = shlex.split(command)
    assert words[0] == "mlx-suite"
    done = subprocess.run(
        [sys.executable, "-m", "mlx_suite_apps.cli.main", *words[1:]], cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("command", "output"), OUTPUTS)
def test_a_command_prints_what_the_readme_shows(command: str, output: str) -> None:
    assert program(command) == output


def test_the_readme_shows_an_output_and_five_rows() -> None:
    assert OUTPUTS and len(SHOWN_ROWS) == 5


@pytest.mark.parametrize(("instruction", "response"), SHOWN_ROWS)
def test_a_row_in_the_readme_is_right(instruction: str, response: str) -> None:
    assert check(instruction, response, make_world()) is Verdict.RIGHT


@pytest.mark.slow
def test_the_rows_in_the_readme_and_its_share_of_right_rows_come_from_the_demo(tmp_path: Path) -> None:
    program(f"mlx-suite magpie run tiny-llama3 --count 200 --out {tmp_path} --quiet")
    rows = list(read_journal(tmp_path / ACCEPTED_FILE))
    texts = {(instruction_of(row), response_of(row)) for row in rows}
    assert set(SHOWN_ROWS) <= texts
    right = round(check_dataset(rows).share * len(rows))
    assert f"confirms {right} of the {len(rows)} responses" in README
