"""`mlx-suite pretrain`: printed lines, JSON, errors, resuming and the sizes."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from mlx_suite.pretrain.settings import CorpusPart, PretrainSettings, Replay, TokenizerSource
from mlx_suite_apps.cli.main import app
from tests.apps.failures import stderr_of_failure
from tests.pretrain.story import SHAPE, write_rhymes

pytestmark = pytest.mark.usefixtures("uncompiled")


@pytest.fixture
def recipe(random_model: Path, tmp_path: Path) -> Path:
    """A configuration of two steps."""
    return write_recipe(random_model, tmp_path)


def write_recipe(model: Path, folder: Path, **changes: Any) -> Path:
    data = write_rhymes(folder / "rhymes.jsonl")
    small = {"steps": 2, "batch": 2, "length": 16, "eval_every": 1, "sample_tokens": 4}
    values = {"config": SHAPE, "tokenizer": str(model), "data": str(data), **small, **changes}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    return folder / "recipe.yaml"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["pretrain", *map(str, arguments)], catch_exceptions=False)


def fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> list[str]:
    """Stderr lines of a program that exits with 2 and prints nothing to stdout."""
    return stderr_of_failure(monkeypatch, capsys, "pretrain", *arguments).splitlines()


def test_a_run_reports_its_corpus_its_plan_and_its_result(recipe: Path, tmp_path: Path) -> None:
    result = run(recipe, "--out", tmp_path / "run")
    assert result.exit_code == 0
    lines = [line.rstrip() for line in result.stderr.splitlines()]
    shown = [line for line in lines if not line.startswith(("tokenize", "pretrain"))]
    assert shown[0].startswith("corpus     rhymes: 722 tokens in 38 documents")
    assert shown[1] == "held out   rhymes: 38 tokens"
    assert shown[2] == ("model      llama, 2 blocks, width 32, 2 heads, 1 key-value heads, MLP 64, vocabulary 272")
    assert shown[3] == "parameters 27,296, of which 18,592 outside embedding and head"
    assert shown[5] == "step       32 tokens: 2 rows of 16 (recipe.yaml)"
    assert shown[6].startswith("rate       0.004, wsd, adamw (for ")
    assert shown[7] == "steps      2: 64 tokens, 0.087 epochs (recipe.yaml)"
    assert any(line.startswith("step      0  validation loss ") and "bits per byte" in line for line in shown)
    labels = [line.split()[0] for line in result.stdout.splitlines()]
    assert labels == ["validation", "read", "model", "logs", "try"]


def test_json_has_the_figures_and_nothing_else_is_printed(recipe: Path, tmp_path: Path) -> None:
    result = run(recipe, "--out", tmp_path / "run", "--json")
    assert result.stderr == ""
    facts = json.loads(result.stdout)
    assert (facts["steps"], facts["stopped"], facts["parameters"], facts["trained_tokens"]) == (2, False, 27_296, 64)
    assert facts["best_valid_loss"] <= facts["valid_loss_before"]
    assert facts["read"]["rhymes"]["tokens"] == 64


def test_the_same_command_reports_that_it_resumes(recipe: Path, tmp_path: Path) -> None:
    first = run(recipe, "--out", tmp_path / "run", "--quiet")
    assert first.stderr == ""
    again = run(recipe, "--out", tmp_path / "run")
    assert "resumed    from step 2" in again.stderr
    assert again.stdout == first.stdout


def test_set_changes_keys_of_the_file_and_is_an_origin(recipe: Path, tmp_path: Path) -> None:
    changes = ["--set", "steps=1", "--set", "learning-rate=2e-3", "--set", f"valid={{path: {tmp_path}/rhymes.jsonl}}"]
    result = run(recipe, "--out", tmp_path / "run", *changes)
    assert result.exit_code == 0, result.stderr
    written = (tmp_path / "run" / "config.yaml").read_text()
    lines = {line.split(":")[0]: line.split("#")[-1].strip() for line in written.splitlines() if ": " in line}
    assert (lines["steps"], lines["learning_rate"], lines["batch"], lines["seed"], lines["out"]) == (
        *("flag", "flag", "recipe.yaml", "default", "flag"),
    )
    assert "learning_rate: 0.002 " in written


def test_an_estimate_prints_the_plan_and_trains_nothing(recipe: Path, tmp_path: Path) -> None:
    result = run(recipe, "--out", tmp_path / "run", "--estimate")
    labels = [line.split()[0] for line in result.stdout.splitlines()]
    assert labels == ["corpus", "held", "model", "parameters", "memory", "step", "rate", "steps"]
    facts = json.loads(run(recipe, "--out", tmp_path / "run", "--estimate", "--json").stdout)
    assert (facts["steps"], facts["step_tokens"], facts["body_parameters"], facts["fits"]) == (2, 32, 18_592, True)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_corpus_read_many_times_is_noted(random_model: Path, tmp_path: Path) -> None:
    recipe = write_recipe(random_model, tmp_path, steps=None, epochs=20)
    assert "the corpus is read 20 times" in run(recipe, "--out", tmp_path / "run", "--estimate").stdout


def test_sizes_are_listed() -> None:
    lines = run("--sizes").stdout.splitlines()
    assert lines[0].split() == ["size", "width", "heads", "parameters", "tokens", "batch", "learning", "rate"]
    assert lines[2].split() == ["4", "256", "4", "3.0", "M", "59", "M", "24", "K", "0.0040"]
    assert json.loads(run("--sizes", "--json").stdout)[1]["width"] == 256


def test_every_key_is_listed_with_its_default_and_meaning() -> None:
    lines = run("--keys").stdout.splitlines()
    starts = {line.split(":")[0] for line in lines}
    assert {field.name for field in fields(PretrainSettings)} <= starts
    assert {f"    {field.name}" for kind in (CorpusPart, Replay, TokenizerSource) for field in fields(kind)} <= starts
    assert "seed: Random seed for the initial weights and the order of the rows. (default 0)" in lines
    assert max(map(len, lines)) <= 80


# ---- errors


def test_a_missing_configuration_or_folder_is_refused(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fail(monkeypatch, capsys) == [
        "error: No configuration file is given",
        "fix:   mlx-suite pretrain CONFIG --out DIR",
    ]
    assert fail(monkeypatch, capsys, recipe) == [
        "error: No output folder is given",
        "where: --out",
        "fix:   for example, --out runs/mine",
    ]


def test_unknown_keys_and_invalid_values_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("sise: 4\ndata: [{paht: a}]\n")
    assert fail(monkeypatch, capsys, recipe, "--out", tmp_path / "run") == [
        "error: The configuration file is invalid",
        "       - sise: did you mean size?",
        "       - data: paht: did you mean path?",
        f"where: {recipe}",
        "fix:   correct these lines",
    ]
    recipe.write_text("size: 4\n")
    assert fail(monkeypatch, capsys, recipe)[0] == "error: The configuration sets no data"
    recipe.write_text("size: 4\ndata: a.txt\n")
    assert fail(monkeypatch, capsys, recipe, "--out", "run", "--set", "batch=0") == [
        "error: 2 settings are invalid",
        "       - tokenizer is missing: name a model, or {train: 4096} to train one on the corpus",
        "       - batch is 0: expected a whole number of at least 1",
        "where: command line",
        "fix:   see mlx-suite pretrain --keys for the allowed values",
    ]


def test_a_set_flag_without_a_value_is_refused(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fail(monkeypatch, capsys, recipe, "--set", "size", "--set", "data=[", "--set", "=3") == [
        "error: A --set flag is invalid",
        "       - 'size' is not KEY=VALUE with a YAML value",
        "       - 'data=[' is not KEY=VALUE with a YAML value",
        "       - '=3' is not KEY=VALUE with a YAML value",
        "where: --set",
        "fix:   for example, --set size=6",
    ]


def test_a_missing_corpus_is_named(
    random_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(random_model, tmp_path, data=str(tmp_path / "nothing.txt"))
    err = fail(monkeypatch, capsys, recipe, "--out", tmp_path / "run", "--quiet")
    assert err[0].startswith("error: ") and any("nothing.txt" in line for line in err)


def test_leaks_reports_held_out_items_and_trains_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "web.jsonl").write_text('{"text": "Clean."}\n{"text": "What is the capital of Wales? Cardiff."}\n')
    (tmp_path / "held.txt").write_text("What is the capital of Wales?\nWho wrote this unknown line of text?\n")
    config = tmp_path / "config.yaml"
    config.write_text(f"size: 2\ntokenizer: {{train: 300}}\ndata: {tmp_path / 'web.jsonl'}\n")
    app(["pretrain", str(config), "--leaks", str(tmp_path / "held.txt")], standalone_mode=False)
    assert capsys.readouterr().out.splitlines()[:2] == [
        "1 of 2 held-out items occur in the corpus (50.00%)",
        "web: 1 in 2 texts",
    ]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["config.yaml", "held.txt", "web.jsonl"]
