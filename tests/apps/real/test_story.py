"""`make real` up to the weights: its data, its commands, and the story that it tells."""

import json
from pathlib import Path

import pytest
import typer

from mlx_suite.runtime.errors import UserError
from mlx_suite_apps.cli.main import app
from mlx_suite_apps.real.steps import story
from mlx_suite_apps.real.story import check_data, result_path, split_articles, split_instructions, told
from tests.docs.test_docs import check_flags


def test_the_instructions_are_split_as_in_the_book(tmp_path: Path) -> None:
    (tmp_path / "all.json").write_text(json.dumps([{"number": number} for number in range(1100)]))
    split_instructions(tmp_path / "all.json", tmp_path / "split")
    parts = {name: json.loads((tmp_path / "split" / f"{name}.json").read_text()) for name in ("train", "test", "valid")}
    assert {name: len(rows) for name, rows in parts.items()} == {"train": 935, "test": 110, "valid": 55}
    assert [row["number"] for part in parts.values() for row in part] == list(range(1100))


def test_the_synthesizer_reads_the_first_articles_and_writes_from_the_last(tmp_path: Path) -> None:
    articles = [{"title": str(number), "paragraphs": [{"context": f"text {number}"}]} for number in range(48)]
    (tmp_path / "questions.json").write_text(json.dumps({"data": articles}))
    split_articles(tmp_path / "questions.json", tmp_path / "articles")
    read = json.loads((tmp_path / "articles" / "read.json").read_text())["data"]
    assert [article["title"] for article in read] == [str(number) for number in range(40)]
    lines = (tmp_path / "articles" / "unseen.jsonl").read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines] == [f"text {number}" for number in range(40, 48)]


def test_missing_data_are_all_named_with_their_origin(tmp_path: Path) -> None:
    (tmp_path / "the-verdict.txt").write_text("I had always thought Jack Gisburn rather a cheap genius")
    with pytest.raises(UserError, match="2 data files are missing") as caught:
        check_data(tmp_path)
    assert [line.partition(":")[0] for line in caught.value.details] == ["instruction-data.json", "xquad.en.json"]


def test_every_step_is_a_command_with_known_flags(tmp_path: Path) -> None:
    steps = story(tmp_path, tmp_path / "model.gguf", tmp_path, steps=3)
    assert len({step.name for step in steps}) == len(steps) == 20
    for step in steps:
        check_flags(typer.main.get_command(app), list(step.command), ["mlx-suite", *step.command])


def test_the_story_has_every_command_with_its_figures_and_rows_as_they_came(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    [step] = [step for step in story(tmp_path, tmp_path / "x.gguf", tmp_path) if step.name == "exact-tuned"]
    result = {"rows": 110, "right": 40, "cut_off": 2}
    result_path(tmp_path, step).write_text(json.dumps({"seconds": 90, "result": result}))
    answer = {"messages": [{"content": "Plural of mouse?"}], "reference": "mice", "answer": "mice\nor so"}
    (tmp_path / "answers-tuned.jsonl").write_text(json.dumps(answer) + "\n")
    (tmp_path / "magpie").mkdir()
    row = {"messages": [{"content": "Name a fish."}, {"content": "Trout."}]}
    (tmp_path / "magpie" / "accepted.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "pairs").mkdir()
    text = {"written": [{"pairs": [{"question": "Who?", "answer": "She."}]}, {"form": "faq"}]}
    (tmp_path / "pairs" / "texts.jsonl").write_text(json.dumps(text) + "\n")
    page = told(tmp_path, [step])
    assert "* equal to the reference: 40 of 110\n* ended by themselves: 108 of 110, 98%\n* 90 seconds" in page
    assert "> **question** Plural of mouse?  \n> **reference** mice  \n> **answer** mice ⏎ or so  " in page
    assert "> **question** Name a fish.  \n> **answer** Trout.  " in page
    assert "> **question** Who?  \n> **answer** She.  " in page
