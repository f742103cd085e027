"""`mlx-suite magpie report`: path of the page, printed lines, and errors."""

import json
import shlex
from dataclasses import fields
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from mlx_suite.magpie import MagpieSettings
from mlx_suite.magpie.manifest import command_of
from mlx_suite.runtime.errors import UserError
from mlx_suite_apps.cli.magpie import magpie_run
from mlx_suite_apps.cli.magpie_report import report
from tests.curation.report.rows import rejected, write_run
from tests.magpie.rows import row

app = typer.Typer()
app.command()(report)


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [row(f"Name river {number}.", instruction_tokens=4, answer_tokens=2, model="tiny") for number in range(4)]
    dropped = [rejected("Name river 1.", "duplicate", "screen", instruction_tokens=4)]
    manifest = {"quotas": {"topic": {"rivers": 2}}}
    return write_run(tmp_path / "run", rows, dropped, manifest)


def test_the_page_of_a_run_is_written_into_its_folder(folder: Path) -> None:
    result = invoke(folder)

    assert result.exit_code == 0
    assert (folder / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[:4] == ["data run", "rejected 1 duplicate", "rows 4", "yield 80.0% accepted rows / generated rows"]
    assert "quota topic rivers: 0 of 2" in lines
    assert lines[-1] == f"page {folder / 'report.html'}"


def test_json_has_the_metrics(folder: Path, tmp_path: Path) -> None:
    result = invoke(folder, "--json", "--quiet", "--out", tmp_path / "page.html")

    facts = json.loads(result.stdout)
    assert facts["file"] == str(tmp_path / "page.html")
    assert facts["unit"] == "tokens"
    [dataset] = facts["datasets"]
    assert dataset["funnel"]["tokens_per_row"] == 7.0
    assert dataset["lengths"]["instruction"]["median"] == 4.0
    assert facts["overlap"] is None


def test_two_datasets_are_compared(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps(row(f"Name river {number}.")) + "\n" for number in (0, 7, 8)))

    result = invoke("run", "other.jsonl")

    assert "1 of A and 1 of B are in both" in result.stdout
    assert Path("comparison.html").is_file()


def test_a_file_that_is_not_a_report_is_not_overwritten(folder: Path, tmp_path: Path) -> None:
    thesis = tmp_path / "thesis.html"
    thesis.write_text("mine")

    with pytest.raises(UserError, match="not a report"):
        invoke(folder, "--out", thesis)
    assert thesis.read_text() == "mine"
    assert invoke(folder, "--out", thesis, "--force").exit_code == 0


def test_the_number_of_shown_rows_can_be_set(folder: Path) -> None:
    invoke(folder, "--sample", 1)
    one = (folder / "report.html").read_text(encoding="utf-8")
    invoke(folder, "--sample", 4)

    assert (folder / "report.html").read_text(encoding="utf-8").count('class="row"') == one.count('class="row"') + 3


def test_the_command_shown_on_a_page_has_only_existing_flags() -> None:
    program = typer.Typer()
    program.command()(magpie_run)
    known = {flag for each in typer.main.get_command(program).params for flag in (*each.opts, *each.secondary_opts)}
    changed = {bool: False, int: 7, float: 0.5, tuple: ("x",), type(None): "y", str: "z"}
    settings = MagpieSettings(count=9, model_name="tiny")
    for field in fields(MagpieSettings):
        if field.name not in ("count", "model_name"):
            object.__setattr__(settings, field.name, changed[type(field.default)])

    command = command_of(settings)

    assert command is not None
    assert {word for word in shlex.split(command) if word.startswith("--")} <= known
