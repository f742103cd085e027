"""Response files: complete after a kill, in order, and never a mixture of two models' responses."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlx_suite.engine.chat_model import ChatModel
from mlx_suite.evaluate.answering import AnswerSettings, QuestionSet, read_questions, settings_file, write_answers
from mlx_suite.runtime.errors import UserError
from tests.evaluate.conftest import Loaded

SHORT = AnswerSettings(max_tokens=8, model="random")


def chat(checkpoint: Loaded, **changes: Any) -> ChatModel:
    facts = {"model": checkpoint.model, "tokenizer": checkpoint.tokenizer, "template": checkpoint.template, "slots": 3}
    return ChatModel(**{**facts, **changes})


@pytest.fixture
def questions(tmp_path: Path) -> QuestionSet:
    rows = [{"instruction": f"a{i} b", "input": "", "output": f"r{i}"} for i in range(7)]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_questions(path)


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_contain_question_reference_response_and_stop_reason(
    checkpoint: Loaded, questions: QuestionSet, tmp_path: Path
) -> None:
    out = tmp_path / "answers.jsonl"
    assert write_answers(chat(checkpoint), questions, SHORT, out) == 7
    rows = records(out)
    assert [row["number"] for row in rows] == list(range(7))
    assert [row["reference"] for row in rows] == [f"r{i}" for i in range(7)]
    assert rows[2]["messages"] == [{"role": "user", "content": "a2 b"}]
    assert rows[2]["place"] == "data.jsonl:3"
    assert {row["reason"] for row in rows} <= {"stop", "limit"}
    assert json.loads(settings_file(out).read_text())["names"] == {"model": "random", "adapter": None}


def test_a_resumed_run_writes_the_same_file(checkpoint: Loaded, questions: QuestionSet, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    write_answers(chat(checkpoint), questions, SHORT, whole)

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_answers(chat(checkpoint), questions, SHORT, broken, tell=stop)
    assert len(records(broken)) == 3
    with broken.open("a") as file:
        file.write('{"number": 5, "pla')  # what kill -9 leaves
    counts: list[int] = []
    write_answers(chat(checkpoint), questions, SHORT, broken, tell=lambda done, total: counts.append(done))
    assert counts == [3, 4, 5, 6, 7]
    assert broken.read_bytes() == whole.read_bytes()


def test_more_questions_can_be_added_later(checkpoint: Loaded, questions: QuestionSet, tmp_path: Path) -> None:
    some, whole = tmp_path / "some.jsonl", tmp_path / "whole.jsonl"
    write_answers(chat(checkpoint), questions, SHORT, whole)
    write_answers(chat(checkpoint), questions, SHORT, some, limit=2)
    assert len(records(some)) == 2
    write_answers(chat(checkpoint), questions, SHORT, some)
    assert some.read_bytes() == whole.read_bytes()


def test_resuming_with_another_model_or_other_settings_is_refused(
    checkpoint: Loaded, questions: QuestionSet, tmp_path: Path
) -> None:
    out = tmp_path / "answers.jsonl"
    write_answers(chat(checkpoint), questions, SHORT, out, limit=2)
    before = out.read_bytes()
    other = AnswerSettings(max_tokens=9, system="Be brief.", model="random")
    with pytest.raises(UserError) as caught:
        write_answers(chat(checkpoint, style="phi3"), questions, other, out)
    changed = [line.split(":")[0] for line in caught.value.details]
    assert changed == ["style", "max_tokens", "system"]
    assert out.read_bytes() == before


def test_an_unrelated_file_is_left_alone(checkpoint: Loaded, questions: QuestionSet, tmp_path: Path) -> None:
    out = tmp_path / "mine.jsonl"
    out.write_text('{"text": "mine"}\n')
    with pytest.raises(UserError, match="does not record the settings of this run"):
        write_answers(chat(checkpoint), questions, SHORT, out)
    assert out.read_text() == '{"text": "mine"}\n'


def test_the_system_text_is_prepended_to_conversations_without_one(checkpoint: Loaded, tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    rows = [{"instruction": "a", "output": "r"}, {"system": "Own.", "instruction": "a", "output": "r"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = AnswerSettings(max_tokens=2, system="Mine.")
    write_answers(chat(checkpoint), read_questions(path), settings, tmp_path / "out.jsonl")
    first = [row["messages"][0]["content"] for row in records(tmp_path / "out.jsonl")]
    assert first == ["Mine.", "Own."]


def test_a_part_not_used_for_training_is_preferred(tmp_path: Path) -> None:
    for name in ("train", "valid"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"instruction": name, "output": "r"}) + "\n")
    assert read_questions(tmp_path).part == "valid"
    assert read_questions(tmp_path, "train").examples[0].messages[0].content == "train"
    with pytest.raises(UserError, match="no test part") as caught:
        read_questions(tmp_path, "test")
    assert "valid, train" in caught.value.fix


def test_plain_text_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text('{"text": "Once."}\n')
    with pytest.raises(UserError, match="1 rows are plain text"):
        read_questions(tmp_path / "data.jsonl")
