"""`mlx-suite magpie tag` and `calibrate`: files, printed lines, JSON, and errors."""

import json
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
import typer
from typer.testing import CliRunner, Result

from mlx_suite.data.questions import Question, Questions, write_questions
from mlx_suite.runtime.errors import UserError
from mlx_suite_apps.cli.magpie_tag import magpie_calibrate, magpie_tag

program = typer.Typer(pretty_exceptions_enable=False)
program.command("tag")(magpie_tag)
program.command("calibrate")(magpie_calibrate)

ALPACA = [
    {"instruction": "Add these.", "input": "a b", "output": "c", "base_output": "a"},
    {"instruction": "abc?", "output": "b"},
]
BRIEF = Questions(
    listening="Y",
    questions=(
        Question(name="category", about="instruction", text="K", labels=("Math", "Others")),
        Question(name="answer_quality", about="answer", text="G", labels=("poor", "good")),
    ),
)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(program, list(map(str, arguments)), catch_exceptions=False)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "alpaca.json"
    path.write_text(json.dumps(ALPACA))
    return path


@pytest.fixture
def tagging_model(random_model: Path, tmp_path: Path) -> Path:
    """The random model with its own tagging questions."""
    folder = tmp_path / "tagger"
    shutil.copytree(random_model, folder)
    write_questions(BRIEF, folder / "tag_questions.json")
    return folder


@pytest.fixture
def reward_model(random_model: Path, tmp_path: Path) -> Path:
    """The random model with a score head instead of its LM head."""
    folder = tmp_path / "judge"
    shutil.copytree(random_model, folder)
    settings = json.loads((folder / "config.json").read_text())
    settings["architectures"] = ["LlamaForSequenceClassification"]
    (folder / "config.json").write_text(json.dumps(settings))
    weights: dict[str, Any] = dict(mx.load(str(folder / "model.safetensors")))
    head = weights.pop("lm_head.weight")
    mx.save_safetensors(str(folder / "model.safetensors"), weights | {"score.weight": 10.0 * head[:1]})
    return folder


def test_alpaca_rows_are_tagged_and_scored(data: Path, tagging_model: Path, reward_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "tagged.jsonl"
    flags = ("--scores", "ifd,reward,reward_difference", "--reward-model", reward_model, "--out", out)

    first = run("tag", data, tagging_model, *flags, "-q")

    assert first.exit_code == 0
    assert (first.stderr, first.stdout.count("\n") > 3) == ("", True)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [turn["content"] for turn in rows[0]["messages"]] == ["Add these.\n\na b", "c"]
    assert rows[0]["base_output"] == "a"
    assert sorted(rows[0]["tags"]) == ["answer_quality", "category"]
    assert [sorted(row["scores"]) for row in rows] == [["ifd", "reward", "reward_difference"], ["ifd", "reward"]]

    again = run("tag", data, tagging_model, *flags, "--json")
    facts = json.loads(again.stdout)
    assert (facts["rows"], facts["reused"], facts["seconds"]) == (2, 2, {})
    assert facts["scores"]["reward"]["rows"] == 2
    assert sum(facts["tags"]["category"].values()) == 2


def test_only_and_limit_select_questions_and_rows(data: Path, tagging_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "tagged.jsonl"

    run("tag", data, tagging_model, "--only", "category", "--limit", "1", "--out", out, "-q")

    [row] = [json.loads(line) for line in out.read_text().splitlines()]
    assert list(row["tags"]) == ["category"]


def test_unknown_questions_and_reward_models_are_refused(data: Path, tagging_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean category"):
        run("tag", data, tagging_model, "--only", "categry", "--out", tmp_path / "t.jsonl", "-q")
    with pytest.raises(UserError, match="reward needs a reward model"):
        run("tag", data, tagging_model, "--scores", "reward", "--out", tmp_path / "t.jsonl", "-q")
    with pytest.raises(UserError, match="not a supported reward model"):
        run(
            "tag", data, tagging_model, "--scores", "reward", "--reward-model", tagging_model, "-q",
            "--out", tmp_path / "t.jsonl",
        )  # fmt: skip
    assert not (tmp_path / "t.jsonl").exists()


def test_calibrate_compares_tags_with_known_labels(tagging_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "known.jsonl"
    labels = [{"category": "Math", "answer_quality": "good"}, {"category": "Others", "answer_quality": "poor"}]
    path.write_text(
        "".join(json.dumps({**row, "labels": each}) + "\n" for row, each in zip(ALPACA, labels, strict=True))
    )

    shown = run("calibrate", path, tagging_model, "--as-text", "-q")
    facts = json.loads(run("calibrate", path, tagging_model, "--only", "category", "--json", "-q").stdout)

    assert "on 2 rows with known labels" in shown.stdout
    assert "of the replies can be parsed" in shown.stdout
    assert "none: the most probable label is taken, so every row has one" in " ".join(shown.stdout.split())
    assert [each["question"] for each in facts["questions"]] == ["category"]
    assert (facts["questions"][0]["rows"], facts["questions"][0]["parse_rate"]) == (2, 1.0)


def test_calibrate_on_the_microworld_needs_no_file() -> None:
    facts = json.loads(
        run("calibrate", "tiny-llama3", "--microworld", "2", "--only", "safety,answer_quality", "--json", "-q").stdout
    )
    assert [(each["question"], each["rows"]) for each in facts["questions"]] == [("safety", 2), ("answer_quality", 2)]


def test_labelled_rows_come_from_either_a_file_or_the_microworld(tagging_model: Path) -> None:
    with pytest.raises(UserError, match="Rows with known labels and a model are needed"):
        run("calibrate", tagging_model)
    with pytest.raises(UserError, match="Rows with known labels and a model are needed"):
        run("calibrate", "rows.jsonl", tagging_model, "--microworld", "2")
