"""`mlx-suite finetune`: printed lines, JSON, errors, resuming and stopping."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from mlx_suite.finetune.settings import FinetuneSettings
from mlx_suite.text import load_tokenizer
from mlx_suite_apps.cli.finetune import GROUPS
from mlx_suite_apps.cli.main import app
from mlx_suite_apps.cli.options import field_docs
from tests.apps.failures import stderr_of_failure

START = "from mlx_suite_apps.cli.main import main; main()"
SMALL = ["--steps", "2", "--batch", "2", "--rank", "2", "--eval-every", "1", "--sample-tokens", "4"]


pytestmark = pytest.mark.usefixtures("uncompiled")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """24 rows in Alpaca's format."""
    rows = [{"instruction": f"say {'ab'[i % 2] * (i + 1)}", "output": "ba"[i % 2] * (i + 1)} for i in range(24)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["finetune", *map(str, arguments)], catch_exceptions=False)


def fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> list[str]:
    """Stderr lines of a program that exits with 2 and prints nothing to stdout."""
    return stderr_of_failure(monkeypatch, capsys, "finetune", *arguments).splitlines()


def test_every_setting_has_a_flag() -> None:
    positional = {"model", "data", "out", "prompts"}
    assert {name for names in GROUPS.values() for name in names} | positional == set(field_docs(FinetuneSettings))


def test_a_run_reports_its_data_its_model_and_its_result(random_model: Path, data: Path, tmp_path: Path) -> None:
    result = run(random_model, data, "--out", tmp_path / "run", *SMALL)
    assert result.exit_code == 0
    lines = [line.rstrip() for line in result.stderr.splitlines()]
    assert lines[0] == "read       rows.jsonl: 24 rows of alpaca, for training"
    assert lines[1].startswith("examples   23 to train on, 1 to validate; ")
    assert lines[2].startswith("training   ") and lines[2].endswith(", lora of rank 2")
    assert any(line.startswith("step      0  validation loss ") for line in lines)
    labels = [line.split()[0] for line in result.stdout.splitlines()]
    assert labels == ["validation", "tokens", "adapter", "logs", "try"]


def test_json_has_the_figures_and_nothing_else_is_printed(random_model: Path, data: Path, tmp_path: Path) -> None:
    result = run(random_model, data, "--out", tmp_path / "run", "--json", *SMALL)
    assert result.stderr == ""
    facts = json.loads(result.stdout)
    assert facts["steps"] == 2
    assert facts["stopped"] is False
    assert facts["best_valid_loss"] <= facts["valid_loss_before"]


@pytest.mark.parametrize("output", ["--quiet", "--json"])
def test_what_is_left_out_is_told_anyway(random_model: Path, data: Path, tmp_path: Path, output: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [json.loads(line) | {"source": "web"} for line in data.read_text().splitlines()]
    rows += [{"instruction": "a", "output": "b", "label": False}, {"instruction": "a", "output": ""}]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "notes.jsonl").write_text('{"text": "a"}\n')
    modules = ["--modules", "q_proj,w_proj", "--skip-bad"]
    result = run(random_model, folder, "--out", tmp_path / "run", output, *modules, *SMALL)
    assert [line.split(maxsplit=1)[1] for line in result.stderr.splitlines()] == [
        "read   notes.jsonl, next to the training file",
        "read   source in 24 of 24 rows of train.jsonl",
        'out   1 row: "label" is false: an undesired response (KTO), which is not trained (first train.jsonl:25)',
        "out   1 row with defects",
        "matched nothing in this model: w_proj",
    ]
    if output == "--json":
        facts = json.loads(result.stdout)
        assert facts["notes"] == ["matched nothing in this model: w_proj"]
        assert facts["data"]["skipped"] == {"train.jsonl:26": '"output" is empty; expected text'}
        assert [file["part"] for file in facts["data"]["files"]] == ["unused", "train"]


def test_a_run_is_trained_further(random_model: Path, data: Path, tmp_path: Path) -> None:
    run(random_model, data, "--out", tmp_path / "run", *SMALL)
    small = [*SMALL[:4], *SMALL[6:], "--json"]
    result = run(random_model, data, "--from", tmp_path / "run", "--out", tmp_path / "next", *small)
    assert json.loads(result.stdout)["started_from"]["run"] == str(tmp_path / "run")
    assert "rank: 2" in (tmp_path / "next" / "config.yaml").read_text()


def test_a_flag_that_conflicts_with_the_run_to_start_from_is_refused(
    random_model: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(random_model, data, "--out", tmp_path / "run", *SMALL)
    start = ["--from", tmp_path / "run", "--out", tmp_path / "next", "--rank", "4"]
    lines = fail(monkeypatch, capsys, random_model, data, *start)
    assert f"rank is 4, but {tmp_path / 'run'} has 2" in " ".join(lines)


def test_the_same_command_reports_that_it_resumes(random_model: Path, data: Path, tmp_path: Path) -> None:
    run(random_model, data, "--out", tmp_path / "run", *SMALL)
    again = run(random_model, data, "--out", tmp_path / "run", *SMALL)
    assert again.exit_code == 0
    assert "resumed    from step 2" in again.stderr


def test_flags_override_the_settings_of_a_config_file(random_model: Path, data: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: {random_model}\ndata: {data}\nsteps: 2\nrank: 2\nbatch: 2\neval_every: 1\n")
    result = run("--config", recipe, "--out", tmp_path / "run", "--rank", "3")
    assert result.exit_code == 0, result.stderr
    written = (tmp_path / "run" / "config.yaml").read_text()
    lines = {line.split(":")[0]: line.split("#")[-1].strip() for line in written.splitlines() if ": " in line}
    assert "rank: 3" in written
    assert (lines["rank"], lines["steps"], lines["seed"]) == ("flag", "recipe.yaml", "default")


def test_samples_are_sampled_as_the_flags_and_the_recipe_say(random_model: Path, data: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("sampling:\n  temperature: 0.5\n  stop: [never]\n")
    [letter] = load_tokenizer(random_model).encode("a")
    flags = ["--sample", f"logit_bias={letter}=100", "--sample", "stop=aaa", "--sample", "top-k=3"]
    result = run(random_model, data, "--config", recipe, "--out", tmp_path / "run", *SMALL, *flags, "--prompt", "Hi")
    assert result.exit_code == 0, result.stderr
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["sampling"]
    assert written == {
        **{"temperature": 0.5, "top_p": 1.0, "min_p": 0.0, "top_k": 3, "repetition_penalty": 1.0},
        **{"presence_penalty": 0.0, "frequency_penalty": 0.0, "stop": ["aaa"], "logit_bias": [f"{letter}=100"]},
    }
    lines = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()]
    assert {(line["answer"], line["reason"]) for line in lines} == {("", "stop")}


def test_an_unknown_or_invalid_setting_of_samples_is_named(
    random_model: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = fail(monkeypatch, capsys, random_model, data, "--sample", "topk=3")
    assert "       - sampling: topk: did you mean top_k?" in error
    error = fail(monkeypatch, capsys, random_model, data, "--sample", "top_k=-1")
    assert "       - sampling top_k is -1: expected at least 0" in error


def test_preview_and_estimate_train_nothing(random_model: Path, data: Path, tmp_path: Path) -> None:
    result = run(random_model, data, "--out", tmp_path / "run", "--preview", "--estimate", "--json")
    assert result.exit_code == 0
    assert set(json.loads(result.stdout)) == {"preview", "data", "problems", "estimate"}
    assert not (tmp_path / "run").exists()


def test_preview_marks_the_trained_tokens(random_model: Path, data: Path) -> None:
    shown = run(random_model, data, "--preview").stdout
    assert "⟦" in shown and "<|eot_id|>⟧" in shown


def test_a_row_with_several_defects_is_counted_once(random_model: Path, data: Path) -> None:
    with data.open("a") as file:
        file.write('{"instruction": "", "output": ""}\n')
    assert "left out   1 row with defects" in run(random_model, data, "--preview", "--skip-bad").stdout


def test_examples_longer_than_the_models_context_are_reported(random_model: Path, data: Path, tmp_path: Path) -> None:
    short = tmp_path / "short"
    shutil.copytree(random_model, short)
    config = json.loads((short / "config.json").read_text()) | {"max_position_embeddings": 8}
    (short / "config.json").write_text(json.dumps(config))
    assert "the model's context is 8:" in " ".join(run(short, data, "--preview").stdout.split())
    assert "the model's context is" not in " ".join(run(random_model, data, "--preview").stdout.split())


def test_a_run_that_does_not_improve_the_loss_says_so(random_model: Path, data: Path, tmp_path: Path) -> None:
    result = run(random_model, data, "--out", tmp_path / "run", *SMALL, "--learning-rate", "3", "--warmup", "0")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[0].endswith(" nats per token before training; no evaluation was better")
    assert not (tmp_path / "run" / "best").exists()


# ---- errors


def start(*arguments: str | Path, stdout: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", START, "finetune", *map(str, arguments)]
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE)


def test_a_closed_pipe_is_not_an_error(random_model: Path, data: Path) -> None:
    child = start(random_model, data, "--preview", "--json", stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stderr is not None
    child.stdout.close()
    assert child.stderr.read() == b""
    assert child.wait() == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_output_on_a_full_disk_is_explained(random_model: Path, data: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        child = start(random_model, data, "--preview", "--json", stdout=full)
    _, err = child.communicate()
    assert err.decode().splitlines()[0] == "error: The disk is full"
    assert child.returncode == 2


def test_missing_data_is_refused_with_the_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fail(monkeypatch, capsys, "tiny-llama3") == [
        "error: No data is given",
        "fix:   mlx-suite finetune MODEL DATA --out DIR, or --config FILE",
    ]


def test_a_missing_output_folder_is_refused(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fail(monkeypatch, capsys, "tiny-llama3", data) == [
        "error: No output folder is given",
        "where: --out",
        "fix:   for example, --out runs/mine",
    ]


def test_all_invalid_settings_are_reported_in_one_error(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = ["--method", "lorra", "--rank", "0", "--dropout", "2", "--optimizer", "adam"]
    assert fail(monkeypatch, capsys, "tiny-llama3", data, "--out", "x", *wrong) == [
        "error: 4 settings are invalid",
        "       - method is 'lorra': did you mean lora?",
        "       - optimizer is 'adam': did you mean adamw?",
        "       - rank is 0: expected a whole number of at least 1",
        "       - dropout is 2.0: expected at least 0 and below 1",
        "where: command line",
        "fix:   see mlx-suite finetune --help for the allowed values",
    ]


def test_a_value_of_the_wrong_type_is_refused(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    err = fail(monkeypatch, capsys, "tiny-llama3", data, "--rank", "many")
    assert err[1] == "where: --rank"
    assert err[2].endswith("finetune --help shows the usage")


def test_bad_rows_are_reported_with_their_line_numbers(
    random_model: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with data.open("a") as file:
        file.write('{"instruction": "a", "output": 3}\n{"instruction": \n')
    err = fail(monkeypatch, capsys, random_model, data, "--out", tmp_path / "run")
    assert err[0] == "error: There are 2 problems with the data"
    assert err[1] == '       - rows.jsonl:25: "output" is the number 3; expected text'
    assert err[2].startswith("       - rows.jsonl:26: column 17: ")
    assert not (tmp_path / "run").exists()


def test_resuming_with_other_settings_is_refused(
    random_model: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run(random_model, data, "--out", tmp_path / "run", *SMALL)
    err = fail(monkeypatch, capsys, random_model, data, "--out", tmp_path / "run", *SMALL, "--learning-rate", "1e-3")
    assert "       - learning_rate: was none, now 0.001" in err
    assert err[-2] == f"where: {tmp_path / 'run'}"
