"""`mlx-suite synthesize run`: printed lines, resuming, and errors."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from mlx_suite_apps.cli.main import run_app
from mlx_suite_apps.cli.synthesize_run import synthesize_run
from tests.synthesize.random_chat import write_random_chat

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
app.command("run")(synthesize_run)
app.callback()(lambda: None)

pytestmark = pytest.mark.usefixtures("uncompiled")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_chat(tmp_path_factory.mktemp("models") / "random")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("Ada eats.", "Ben sleeps.", "")))
    return path


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["run", *map(str, arguments), "--max-tokens", "40"])


def fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    monkeypatch.setattr(sys, "argv", ["synthesize", "run", *map(str, arguments)])
    with pytest.raises(SystemExit) as exited:
        run_app(app)
    assert exited.value.code == 2
    return capsys.readouterr().err


def test_a_chat_model_rewrites_a_corpus_and_the_second_run_reuses_everything(
    model: Path, corpus: Path, tmp_path: Path
) -> None:
    first = run(model, corpus, "--out", tmp_path / "out", "--as", "prose,continue", "--rounds", 1)
    assert first.exit_code == 0, first.output
    assert "texts      3\n" in first.stdout
    assert "kept raw   1: blank\n" in first.stdout
    assert "rewrites accepted" in first.stdout
    assert f"folder     {tmp_path / 'out'}\n" in first.stdout
    assert "write  6/6 texts" in first.stderr
    second = run(model, corpus, "--out", tmp_path / "out", "--as", "prose,continue", "--rounds", 1, "--json", "-q")
    summary = json.loads(second.stdout)
    assert (summary["texts"], summary["kept_raw"]["blank"]) == (3, 1)
    assert "prose" in summary["cost"]
    assert second.stderr == ""


def test_the_tags_of_a_synthesizer_are_used_on_request(model: Path, tmp_path: Path) -> None:
    result = run(model, "microworld:2", "--out", tmp_path / "out", "--format", "tags", "--quiet")
    assert result.exit_code == 0, result.output
    assert "kept raw   2: nothing valid was written\n" in result.stdout
    assert "parsed     0.0% of" in result.stdout
    assert result.stderr == ""


def test_mistakes_are_explained(
    model: Path,
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = ("--out", tmp_path / "out")
    assert "There is no form 'poem'" in fail(monkeypatch, capsys, model, corpus, *out, "--as", "poem")
    assert "share is 1.5" in fail(monkeypatch, capsys, model, corpus, *out, "--share", "1.5")
    assert "use one of auto, tags, chat" in fail(monkeypatch, capsys, model, corpus, *out, "--format", "xml")
    assert "does not say how many passages" in fail(monkeypatch, capsys, model, "microworld:x", *out)
    assert "language that it was trained on" in fail(
        monkeypatch, capsys, model, corpus, *out, "--format", "tags", "--language", "German"
    )
    assert "there is no such file or folder" in fail(monkeypatch, capsys, model, tmp_path / "missing.jsonl", *out)
    corpus.write_text('{"body": "Ada eats."}\n')
    assert "there is no field 'text'; its fields are 'body'" in fail(monkeypatch, capsys, model, corpus, *out)
