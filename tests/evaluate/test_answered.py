"""Reading files of responses: our format, the one of Raschka's book, and datasets."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlx_suite.data.example import Example
from mlx_suite.evaluate.answered import question_of, read_answers, reference_of
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import Message


def written(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def turns(*contents: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)]


@pytest.mark.parametrize(
    ("row", "question", "answer", "reference"),
    [
        ({"messages": turns("Q"), "answer": "A", "reference": "R", "reason": "stop"}, ["Q"], "A", "R"),
        ({"messages": turns("Q", "A1", "Q2"), "answer": ""}, ["Q", "A1", "Q2"], "", None),
        ({"messages": turns("Q", "R"), "answer": "A"}, ["Q"], "A", "R"),
        ({"instruction": "Q", "input": "I", "output": "R", "model_response": "A"}, ["Q\n\nI"], "A", "R"),
        ({"instruction": "Q", "input": "", "output": "R", "model_response": "A"}, ["Q"], "A", "R"),
        ({"question": "Q", "prediction": "A", "expected": "R"}, ["Q"], "A", "R"),
        ({"prompt": "Q", "response": "A", "reference": "R"}, ["Q"], "A", "R"),
        # Dataset rows contain one response and no reference.
        ({"messages": turns("Q", "A")}, ["Q"], "A", None),
        ({"messages": turns("Q", "A1", "Q2", "A")}, ["Q", "A1", "Q2"], "A", None),
        ({"instruction": "Q", "input": "I", "output": "A"}, ["Q\n\nI"], "A", None),
        ({"prompt": "Q", "response": "A"}, ["Q"], "A", None),
        ({"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}, ["Q"], "A", None),
    ],
)
def test_all_common_keys_are_read(
    tmp_path: Path, row: dict[str, Any], question: list[str], answer: str, reference: str | None
) -> None:
    [found] = read_answers(written(tmp_path / "answers.jsonl", row))
    assert [turn.content for turn in found.question] == question
    assert (found.answer, found.reference, found.place) == (answer, reference, "answers.jsonl:1")


def test_the_stop_reason_of_a_response_is_kept(tmp_path: Path) -> None:
    rows = [{"instruction": "Q", "answer": "A", "reason": "limit"}, {"instruction": "Q", "answer": "A"}]
    assert [row.reason for row in read_answers(written(tmp_path / "a.jsonl", *rows))] == ["limit", "stop"]


def test_all_bad_rows_are_listed(tmp_path: Path) -> None:
    path = written(
        tmp_path / "a.jsonl",
        {"instruction": "Q", "answer": 7},
        {"instruction": "Q", "answer": "A"},
        {"instruction": " ", "answer": "A", "reference": []},
        {"messages": turns("Q", "", "Q2"), "answer": "A"},
    )
    with pytest.raises(UserError) as caught:
        read_answers(path)
    assert caught.value.details == (
        'a.jsonl:1: "answer" is the number 7; expected text',
        'a.jsonl:3: "reference" is a list; expected text; "instruction" is empty; expected text',
        'a.jsonl:4: turn 2, "content" is empty; expected text',
    )


def test_a_file_without_rows_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n")
    with pytest.raises(UserError, match="no rows"):
        read_answers(tmp_path / "a.jsonl")


def test_the_test_part_of_a_folder_is_read(tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        written(tmp_path / f"{name}.jsonl", {"messages": turns(name, "A")})
    assert [row.instruction for row in read_answers(tmp_path)] == ["test"]


def test_the_question_of_an_example_ends_before_its_last_response() -> None:
    example = Example(
        messages=(Message("user", "Q"), Message("assistant", "A"), Message("user", "Q2"), Message("assistant", "A2")),
        context="about",
    )
    assert [turn.content for turn in question_of(example)] == ["Q\n\nabout", "A", "Q2"]
    assert [turn.content for turn in question_of(example, joined=False)] == ["Q", "A", "Q2"]
    assert reference_of(example) == "A2"
