"""`mlx-suite export gguf`: files, printed lines, JSON, and missing packages."""

import json
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from mlx_suite.runtime.errors import UserError
from mlx_suite_apps.cli.export_gguf import export_gguf


def run(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(export_gguf)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_shipped_model_is_written_with_a_modelfile(tmp_path: Path) -> None:
    result = run("tiny-llama3", "--out", tmp_path / "My Tiny.gguf", "--type", "q8_0", "-q")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        f"file       {tmp_path}/My Tiny.gguf  2.84 MB, 47 tensors, q8_0",
        f"Modelfile  {tmp_path}/My Tiny.Modelfile",
        f"run it     ollama create my-tiny -f '{tmp_path}/My Tiny.Modelfile' && ollama run my-tiny",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["My Tiny.Modelfile", "My Tiny.gguf"]


def test_json_describes_the_file(tmp_path: Path) -> None:
    result = run("tiny-gemma2", "--out", tmp_path / "tiny.gguf", "--json", "-q")
    facts = json.loads(result.stdout)
    assert facts["num_bytes"] == (tmp_path / "tiny.gguf").stat().st_size
    assert facts == {
        "path": str(tmp_path / "tiny.gguf"),
        "modelfile": str(tmp_path / "tiny.Modelfile"),
        "type": "f16",
        "tensors": 46,
        "num_bytes": facts["num_bytes"],
        "has_template": True,
        "notes": [],
    }


def test_missing_xllamacpp_is_named_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    result = run("tiny-llama3", "--out", tmp_path / "tiny.gguf", "-q", "--check")
    assert isinstance(result.exception, UserError)
    assert result.exception.fix == "pip install xllamacpp, or omit the check"
    assert list(tmp_path.iterdir()) == []
