"""`mlx-suite magpie pairs` and `reflect`: printed lines, resuming, and errors."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from mlx_suite.magpie.pairs.settings import PairSettings
from mlx_suite.magpie.reflection.settings import ReflectSettings
from mlx_suite_apps.cli.magpie_pairs import magpie_pairs
from mlx_suite_apps.cli.magpie_reflect import magpie_reflect
from mlx_suite_apps.cli.main import run_app
from mlx_suite_apps.cli.options import field_docs

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode="markdown")
app.command("pairs")(magpie_pairs)
app.command("reflect")(magpie_reflect)
SMALL = ("--answers", "3", "--max-answer", "16", "--by", "likelihood", "--margin", "0.01")

pytestmark = pytest.mark.usefixtures("uncompiled")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six rows in Alpaca's format."""
    path = tmp_path / "data.json"
    rows = [{"instruction": text, "input": "", "output": "a"} for text in ("ab?", "c", "b c", "a?", "cab", "b")]
    path.write_text(json.dumps(rows))
    return path


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    monkeypatch.setattr(sys, "argv", ["magpie", *map(str, arguments)])
    with pytest.raises(SystemExit) as exited:
        run_app(app)
    assert exited.value.code == 2
    return capsys.readouterr().err


def test_pairs_are_summarised_and_a_second_run_reuses_the_responses(
    random_model: Path, data: Path, tmp_path: Path
) -> None:
    first = run("pairs", data, random_model, "--out", tmp_path / "out", *SMALL)
    assert first.exit_code == 0, first.output
    output = first.stdout
    assert "rows       6 instructions\n" in output
    assert "complete of 18\n" in output
    assert "scored by  likelihood random; margin 0.01 nats per token\n" in output
    assert f"file       {tmp_path / 'out' / 'accepted.jsonl'}\n" in output
    assert first.stderr.splitlines()[-1].startswith("generate  18/18 responses")

    again = run("pairs", data, random_model, "--out", tmp_path / "out", "--json", "--quiet", *SMALL)
    facts = json.loads(again.stdout)
    assert again.stderr == ""
    assert (facts["rows"], facts["answers"]) == (6, 18)
    assert facts["pairs"] + sum(facts["refused"].values()) == 6
    rows = [json.loads(line) for line in Path(facts["file"]).read_text().splitlines()]
    assert len(rows) == facts["pairs"]
    assert all(set(row) >= {"messages", "chosen", "rejected", "margin"} for row in rows)


def test_reflect_reports_how_many_rewrites_were_kept(random_model: Path, data: Path, tmp_path: Path) -> None:
    arguments = ["reflect", data, random_model, "--what", "both", "--max-criticism", "8", "--max-answer", "16"]
    done = run(*arguments, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "rows       6, rewritten by random and judged by random"
    assert lines[1].startswith("rewritten  instructions: 0 of 6 kept, ")
    assert any(line.startswith("rewritten  responses: 0 of 6 kept, ") for line in lines)
    rows = [json.loads(line) for line in (tmp_path / "out" / "accepted.jsonl").read_text().splitlines()]
    assert [row["messages"][0]["content"] for row in rows] == ["ab?", "c", "b c", "a?", "cab", "b"]
    facts = json.loads(run(*arguments, "--out", tmp_path / "out", "--json", "--quiet").stdout)
    assert [part["part"] for part in facts["parts"]] == ["instruction", "answer"]
    assert facts["rows"] == 6


@pytest.mark.parametrize(
    ("arguments", "what", "where"),
    [
        (("--by", "taste"), "--by is 'taste'", "--by"),
        (("--by", "reward"), "--by reward needs a scoring model", "--judge"),
        (("--by", "grade", "--judge", "x"), "--by grade uses no other model", "--judge"),
    ],
)
def test_a_scorer_with_a_missing_or_needless_judge_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: tuple[str, ...],
    what: str,
    where: str,
) -> None:
    error = fail(monkeypatch, capsys, "pairs", "none", "none", "--out", tmp_path / "x", *arguments)
    assert error.startswith(f"error: {what}\nwhere: {where}\n")
    assert not (tmp_path / "x").exists()


def test_all_invalid_settings_are_reported_in_one_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    error = fail(
        monkeypatch, capsys, "reflect", "none", "none", "--what", "all", "--out", tmp_path, "--max-answer", "0"
    )
    assert error == (
        "error: 2 settings are invalid\n"
        "       - what is 'all': expected one of instruction, answer, both\n"
        "       - max_answer is 0: expected 1 or more\n"
        "where: Reflection settings\n"
        "fix:   see mlx-suite magpie reflect --help for the allowed values\n"
    )


def test_a_checkpoint_that_is_not_a_reward_model_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], random_model: Path, data: Path, tmp_path: Path
) -> None:
    arguments = ("pairs", data, random_model, "--out", tmp_path / "x", "--by", "reward", "--judge", random_model)
    error = fail(monkeypatch, capsys, *arguments)
    assert error.startswith("error: not a supported reward model: ")
    assert not (tmp_path / "x").exists()


def test_ctrl_c_says_how_to_resume(
    monkeypatch: pytest.MonkeyPatch, random_model: Path, data: Path, tmp_path: Path
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for name, arguments in {
        "pairs.pairs.make_pairs": ("pairs", *SMALL),
        "reflection.reflection.reflect": ("reflect", "--what", "answer"),
    }.items():
        with monkeypatch.context() as patch:
            patch.setattr(f"mlx_suite.magpie.{name}", interrupt)
            command, *rest = arguments
            stopped = run(command, data, random_model, "--out", tmp_path / "x", "--quiet", *rest)
        assert stopped.exit_code == 130
        assert stopped.stderr.endswith("the same command resumes from there.\n")


@pytest.mark.parametrize(("command", "settings"), [("pairs", PairSettings), ("reflect", ReflectSettings)])
def test_the_help_of_every_flag_is_the_docstring_of_its_setting(command: str, settings: type) -> None:
    text = CliRunner(env={"COLUMNS": "200"}).invoke(app, [command, "--help"]).stdout
    flat = " ".join(text.replace("│", " ").split())
    for name, doc in field_docs(settings).items():
        assert f"--{name.replace('_', '-')}" in flat
        assert " ".join(doc.split()[:5]) in flat
    assert f"mlx-suite magpie {command} demo/ tiny-llama3" in flat


def test_help_does_not_import_mlx() -> None:
    code = (
        "import sys; import mlx_suite_apps.cli.magpie_pairs, mlx_suite_apps.cli.magpie_reflect; "
        "print([name for name in sys.modules if name.startswith('mlx.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
