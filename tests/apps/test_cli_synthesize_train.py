"""`mlx-suite synthesize train`: printed lines, JSON, preview, errors."""

import json
import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mlx_suite.synthesize.train_settings import SynthesizerSettings
from mlx_suite_apps.cli.main import app, main
from mlx_suite_apps.cli.options import field_docs
from mlx_suite_apps.cli.synthesize import GROUPS

SMALL = ["--steps", "2", "--batch", "1", "--max-length", "256", "--eval-every", "1", "--sample-tokens", "2"]

pytestmark = pytest.mark.usefixtures("uncompiled")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """24 texts with a pair each."""
    rows = [{"text": f"a{n} b", "pairs": [{"question": f"a{n}?", "answer": "b"}]} for n in range(24)]
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["synthesize", "train", *map(str, arguments)], catch_exceptions=False)


def test_every_setting_has_a_flag() -> None:
    flags = {name for names in GROUPS.values() for name in names}
    assert flags | {"model", "data", "out"} == set(field_docs(SynthesizerSettings))


def test_a_run_reports_its_data_and_its_result(random_model: Path, data: Path, tmp_path: Path) -> None:
    result = run(random_model, data, "--out", tmp_path / "run", *SMALL)
    assert result.exit_code == 0
    lines = [line.rstrip() for line in result.stderr.splitlines()]
    assert lines[0] == "read       own.jsonl: 24 texts with 24 pairs, own"
    assert lines[1].startswith("chains     ") and " with 23 texts to train on, 1 to validate; " in lines[1]
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["validation", "tokens", "model", "logs", "try"]
    assert "mlx-suite synthesize run " in result.stdout
    assert (tmp_path / "run" / "last" / "synthesizer.json").exists()


def test_json_has_the_figures_and_the_kinds(random_model: Path, data: Path, tmp_path: Path) -> None:
    result = run(random_model, data, "--out", tmp_path / "run", "--json", *SMALL)
    assert result.stderr == ""
    facts = json.loads(result.stdout)
    assert (facts["steps"], facts["kinds"]) == (2, ["free"])


def test_the_preview_marks_the_pairs_and_trains_nothing(random_model: Path, data: Path, tmp_path: Path) -> None:
    result = run(random_model, data, "--preview", "--shots", "1")
    chain = r"<CON> (a\d+) b </CON>↵\s+↵\s+⟦<QUE> \1\? <ANS> b </END><\|eot_id\|>⟧"
    assert len(re.findall(chain, result.stdout)) == 3
    assert list(tmp_path.iterdir()) == [data]


@pytest.mark.parametrize(
    ("arguments", "what", "fix"),
    [
        (
            ["microworld:none", "--out", "x"],
            "error: The number of passages is not a positive number",
            "write microworld:2000",
        ),
        (["microworld:5"], "error: No output folder is given", "for example, --out runs/synth"),
        (
            ["microworld:5", "--out", "x", "--shots", "0"],
            "error: A setting is invalid",
            "see mlx-suite synthesize train --help",
        ),
        (["lost.json", "--out", "x"], "error: there is no such file or folder", "check the path"),
    ],
)
def test_a_mistake_is_named_with_a_fix(
    random_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    what: str,
    fix: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["mlx-suite", "synthesize", "train", str(random_model), *arguments])
    with pytest.raises(SystemExit) as exited:
        main()
    assert exited.value.code == 2
    error = capsys.readouterr().err
    assert error.splitlines()[0] == what and fix in error
