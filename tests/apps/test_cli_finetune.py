"""`mlx-suite finetune`, as a user sees it: what is said, what is refused, and how it is stopped."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mlx_suite.finetune.settings import FinetuneSettings
from mlx_suite_apps.cli.finetune import GROUPS
from mlx_suite_apps.cli.main import app, main
from mlx_suite_apps.cli.options import field_docs

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
    """Run the program itself; the lines it says on stderr when it leaves with 2."""
    monkeypatch.setattr(sys, "argv", ["mlx-suite", "finetune", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_every_setting_is_a_flag_with_its_own_words() -> None:
    positional = {"model", "data", "out", "prompts"}
    assert {name for names in GROUPS.values() for name in names} | positional == set(field_docs(FinetuneSettings))


def test_a_run_says_what_it_reads_trains_and_has_come_to(random_model: Path, data: Path, tmp_path: Path) -> None:
    result = run(random_model, data, "--out", tmp_path / "run", *SMALL)
    assert result.exit_code == 0
    said = [line.rstrip() for line in result.stderr.splitlines()]
    assert said[0] == "read       rows.jsonl: 24 rows of alpaca, for training"
    assert said[1].startswith("examples   23 to train on, 1 to validate; ")
    assert said[2].startswith("training   ") and said[2].endswith(", lora of rank 2")
    assert any(line.startswith("step      0  validation loss ") for line in said)
    labels = [line.split()[0] for line in result.stdout.splitlines()]
    assert labels == ["validation", "tokens", "adapter", "watched", "try"]


def test_json_has_the_figures_and_nothing_else_is_said(random_model: Path, data: Path, tmp_path: Path) -> None:
    result = run(random_model, data, "--out", tmp_path / "run", "--json", *SMALL)
    assert result.stderr == ""
    facts = json.loads(result.stdout)
    assert facts["steps"] == 2
    assert facts["stopped"] is False
    assert facts["best_valid_loss"] <= facts["valid_loss_before"]


def test_the_same_command_says_that_it_goes_on(random_model: Path, data: Path, tmp_path: Path) -> None:
    run(random_model, data, "--out", tmp_path / "run", *SMALL)
    again = run(random_model, data, "--out", tmp_path / "run", *SMALL)
    assert again.exit_code == 0
    assert "resumed    from step 2" in again.stderr


def test_a_file_of_settings_is_the_same_and_flags_win_over_it(random_model: Path, data: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: {random_model}\ndata: {data}\nsteps: 2\nrank: 2\nbatch: 2\neval_every: 1\n")
    result = run("--config", recipe, "--out", tmp_path / "run", "--rank", "3")
    assert result.exit_code == 0, result.stderr
    written = (tmp_path / "run" / "config.yaml").read_text()
    lines = {line.split(":")[0]: line.split("#")[-1].strip() for line in written.splitlines() if ": " in line}
    assert "rank: 3" in written
    assert (lines["rank"], lines["steps"], lines["seed"]) == ("flag", "recipe.yaml", "default")


def test_preview_and_estimate_train_nothing(random_model: Path, data: Path, tmp_path: Path) -> None:
    result = run(random_model, data, "--out", tmp_path / "run", "--preview", "--estimate", "--json")
    assert result.exit_code == 0
    assert set(json.loads(result.stdout)) == {"preview", "problems", "estimate"}
    assert not (tmp_path / "run").exists()


def test_preview_marks_the_trained_tokens(random_model: Path, data: Path) -> None:
    shown = run(random_model, data, "--preview").stdout
    assert "⟦" in shown and "<|eot_id|>⟧" in shown


def test_rows_are_counted_once_however_much_is_wrong_with_them(random_model: Path, data: Path) -> None:
    with data.open("a") as file:
        file.write('{"instruction": "", "output": ""}\n')
    assert "left out   1 row with defects" in run(random_model, data, "--preview", "--skip-bad").stdout


def test_examples_beyond_what_the_model_was_made_for_are_told(random_model: Path, data: Path, tmp_path: Path) -> None:
    short = tmp_path / "short"
    shutil.copytree(random_model, short)
    config = json.loads((short / "config.json").read_text()) | {"max_position_embeddings": 8}
    (short / "config.json").write_text(json.dumps(config))
    assert "the model was made for 8:" in " ".join(run(short, data, "--preview").stdout.split())
    assert "the model was made for" not in " ".join(run(random_model, data, "--preview").stdout.split())


def test_a_run_that_has_not_helped_says_so(random_model: Path, data: Path, tmp_path: Path) -> None:
    result = run(random_model, data, "--out", tmp_path / "run", *SMALL, "--learning-rate", "3", "--warmup", "0")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[0].endswith(" before, nats per token; no evaluation was better")
    assert not (tmp_path / "run" / "best").exists()


# ---- what is refused


def start(*arguments: str | Path, stdout: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", START, "finetune", *map(str, arguments)]
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE)


def test_a_reader_that_goes_away_is_no_error(random_model: Path, data: Path) -> None:
    child = start(random_model, data, "--preview", "--json", stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stderr is not None
    child.stdout.close()
    assert child.stderr.read() == b""
    assert child.wait() == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
def test_an_output_on_a_full_disk_is_explained(random_model: Path, data: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        child = start(random_model, data, "--preview", "--json", stdout=full)
    _, said = child.communicate()
    assert said.decode().splitlines()[0] == "error: The disk is full"
    assert child.returncode == 2


def test_without_data_it_says_how_to_call_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fail(monkeypatch, capsys, "tiny-llama3") == [
        "error: Nothing says which data",
        "fix:   mlx-suite finetune MODEL DATA --out DIR, or --config FILE",
    ]


def test_without_a_folder_it_asks_for_one(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fail(monkeypatch, capsys, "tiny-llama3", data) == [
        "error: There is no folder for the run",
        "where: --out",
        "fix:   name one: --out runs/mine",
    ]


def test_all_wrong_settings_are_named_at_once(
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
        "fix:   mlx-suite finetune --help says what each one means",
    ]


def test_a_value_of_the_wrong_kind_is_one_block_too(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = fail(monkeypatch, capsys, "tiny-llama3", data, "--rank", "many")
    assert said[1] == "where: --rank"
    assert said[2].endswith("finetune --help shows the usage")


def test_bad_rows_are_named_with_their_lines(
    random_model: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with data.open("a") as file:
        file.write('{"instruction": "a", "output": 3}\n{"instruction": \n')
    said = fail(monkeypatch, capsys, random_model, data, "--out", tmp_path / "run")
    assert said[0] == "error: There are 2 problems with the data"
    assert said[1] == '       - rows.jsonl:25: "output" is the number 3; expected text'
    assert said[2].startswith("       - rows.jsonl:26: column 17: ")
    assert not (tmp_path / "run").exists()


def test_a_folder_of_another_run_is_not_trained_over(
    random_model: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run(random_model, data, "--out", tmp_path / "run", *SMALL)
    said = fail(monkeypatch, capsys, random_model, data, "--out", tmp_path / "run", *SMALL, "--learning-rate", "1e-3")
    assert "       - learning_rate: was none, now 0.001" in said
    assert said[-2] == f"where: {tmp_path / 'run'}"
