"""Calibration of a scripted model against true labels."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlx_suite.curation.tags.calibration import CalibrationReport, calibrate, read_reply
from mlx_suite.curation.tags.full_questions import FULL_QUESTIONS, TURNED_QUESTIONS
from mlx_suite.curation.tags.labelled import Labelled, microworld_rows, read_labelled
from mlx_suite.data.questions import Question, Questions
from mlx_suite.engine.chat_model import ChatModel
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import load_chat_template, load_tokenizer
from tests.engine.scripted import ScriptedModel
from tests.text.conftest import byte_folder  # noqa: F401

STOP = 265
DIFFICULTIES = FULL_QUESTIONS.named("difficulty").labels
QUESTIONS = Questions(
    listening="Yes?",
    questions=(
        Question(name="category", about="instruction", text="What kind?", labels=("Math", "Editing", "Others")),
        Question(name="difficulty", about="instruction", text="How hard?", labels=DIFFICULTIES),
        Question(name="answer_quality", about="answer", text="Good?", labels=("poor", "good")),
    ),
)


def letter(text: str) -> int:
    return ord(text) - 33


def chat_of(model: Any, folder: Path) -> ChatModel:
    tokenizer, template = load_tokenizer(folder), load_chat_template(folder)
    return ChatModel(model=model, tokenizer=tokenizer, template=template, max_context=512)


def labelled(truth: dict[str, str], answer: str | None = None) -> Labelled:
    messages = [{"role": "user", "content": "2+2"}]
    if answer is not None:
        messages.append({"role": "assistant", "content": answer})
    return Labelled(messages=messages, truth=truth)


def always_math() -> ScriptedModel:
    """Replies Math with three quarters of the probability, Editing with the rest."""
    chain = dict(zip("Mat", "ath", strict=True)) | dict(zip("Edi", "dit", strict=True))
    script: dict[int, Any] = {letter(one): letter(other) for one, other in chain.items()}
    script |= {letter("h"): STOP, 198: {letter("M"): 0.6, letter("E"): 0.2}}
    return ScriptedModel(script, vocab_size=272)


def test_labels_and_parsed_text_are_compared_with_the_truth(byte_folder: Path) -> None:  # noqa: F811
    rows = [labelled({"category": truth}) for truth in ("Math", "Math", "Editing", "Others")]

    report = calibrate(chat_of(always_math(), byte_folder), rows, QUESTIONS, as_text=True, second=QUESTIONS)

    assert (report.rows, report.left_out) == (4, 0)
    [category] = report.questions
    chosen, written = category.chosen, category.written
    assert (chosen.rows, chosen.agreed, chosen.kappa, chosen.parse_rate) == (4, 2, 0.0, 1.0)
    assert chosen.matrix == ((2, 0, 0), (1, 0, 0), (1, 0, 0))
    assert (chosen.confidence_right, chosen.confidence_wrong) == (0.75, 0.75)
    assert chosen.calibration_error == pytest.approx(0.25)
    assert written is not None and (written.agreed, written.parse_rate) == (2, 1.0)
    assert category.stability == 1.0
    assert json.loads(json.dumps(category.as_dict()))["as_text"]["parse_rate"] == 1.0


def test_unparsable_text_lowers_the_parse_rate(byte_folder: Path) -> None:  # noqa: F811
    rambling = ScriptedModel({letter("M"): letter("M"), 198: {letter("M"): 0.6}}, vocab_size=272)

    report = calibrate(chat_of(rambling, byte_folder), [labelled({"category": "Math"})], QUESTIONS, as_text=True)

    [category] = report.questions
    assert (category.chosen.agreed, category.stability) == (1, None)
    assert category.written is not None
    assert (category.written.parse_rate, category.written.agreed) == (0.0, 0)


def test_a_row_is_asked_only_questions_with_a_true_label_and_scales_are_weighted(byte_folder: Path) -> None:  # noqa: F811
    rows = [labelled({"difficulty": "hard"}), labelled({"answer_quality": "good"}, "4"), labelled({"category": "Math"})]

    report = calibrate(chat_of(always_math(), byte_folder), rows, QUESTIONS, as_text=True)

    assert [(each.question.name, each.chosen.rows) for each in report.questions] == [
        ("category", 1),
        ("difficulty", 1),
        ("answer_quality", 1),
    ]
    assert [each.chosen.weighted_kappa is None for each in report.questions] == [True, False, True]


def test_rows_longer_than_the_context_are_left_out(byte_folder: Path) -> None:  # noqa: F811
    long = Labelled(messages=[{"role": "user", "content": "a" * 600}], truth={"category": "Math"})

    report: CalibrationReport = calibrate(chat_of(always_math(), byte_folder), [long], QUESTIONS)

    assert (report.rows, report.left_out, report.questions) == (1, 1, ())


def test_second_questions_must_have_the_same_labels(byte_folder: Path) -> None:  # noqa: F811
    other = Questions(
        listening="Yes?",
        questions=(Question(name="category", about="instruction", text="?", labels=("Math", "Others")),),
    )
    with pytest.raises(UserError) as error:
        calibrate(chat_of(always_math(), byte_folder), [], QUESTIONS, second=other)
    assert list(error.value.details) == [
        "category: has other labels",
        "difficulty: is missing",
        "answer_quality: is missing",
    ]


def test_turned_questions_list_the_same_replies_in_reverse() -> None:
    for one, other in zip(FULL_QUESTIONS.questions, TURNED_QUESTIONS.questions, strict=True):
        assert (one.name, one.labels, one.about) == (other.name, other.labels, other.about)
        if one.name == "language":
            continue  # lists no replies
        first, last = one.labels[0], one.labels[-1]
        assert one.text.index(f": {first}") < one.text.index(f", {last}")
        assert other.text.index(f": {last}") < other.text.index(f", {first}")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Math", "Math"),
        (" **math**.", "Math"),
        ("Category: Coding & Debugging", "Coding & Debugging"),
        ("I would say coding and debugging!", "Coding & Debugging"),
        ("It is about mathematics", None),
        ("Math or Coding & Debugging", None),
        ("", None),
    ],
)
def test_a_reply_is_parsed_if_it_contains_exactly_one_label(text: str, label: str | None) -> None:
    assert read_reply(text, ("Math", "Coding & Debugging", "Others")) == label


def test_a_longer_label_is_not_mistaken_for_a_shorter_one_in_it() -> None:
    assert read_reply("This is very hard.", DIFFICULTIES) == "very hard"
    assert read_reply("This is hard.", DIFFICULTIES) == "hard"
    assert read_reply("hard, no: very hard", DIFFICULTIES) is None


# ---- labelled rows


def test_true_labels_are_read_from_labels_tags_or_fields_of_the_questions_names(tmp_path: Path) -> None:
    exchange = {"instruction": "2+2", "output": "4"}
    rows = [
        {**exchange, "labels": {"category": "math", "mood": "merry"}, "tags": {"category": "Others"}},
        {**exchange, "tags": {"difficulty": "Very Easy"}},
        {**exchange, "category": " Editing ", "answer_quality": "good"},
        {**exchange, "mood": "merry"},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    found = read_labelled(path, QUESTIONS).rows

    assert [dict(row.truth) for row in found] == [
        {"category": "Math"},
        {"difficulty": "very easy"},
        {"category": "Editing", "answer_quality": "good"},
    ]
    assert [turn["content"] for turn in found[0].messages] == ["2+2", "4"]


def test_unknown_labels_are_all_reported(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    exchange = {"instruction": "2+2", "output": "4"}
    rows = [
        {**exchange, "labels": {"category": "Maths"}},
        {**exchange, "labels": {"category": "Cooking", "difficulty": "hard"}},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    with pytest.raises(UserError) as error:
        read_labelled(path, QUESTIONS)
    assert list(error.value.details) == [
        "row 1: category is 'Maths'; did you mean 'Math'?",
        "row 2: category is 'Cooking'; use one of Math, Editing, Others",
    ]
    path.write_text(json.dumps(exchange) + "\n")
    with pytest.raises(UserError, match="No row has a true label"):
        read_labelled(path, QUESTIONS)


def test_a_row_with_an_unknown_label_or_without_a_response_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    exchange = {"instruction": "2+2", "output": "4"}
    rows = [
        {**exchange, "output": ""},
        {**exchange, "category": "Maths", "difficulty": "easy"},
        {**exchange, "category": "Math"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    found = read_labelled(path, QUESTIONS)

    assert [dict(row.truth) for row in found.rows] == [{"category": "Math"}]
    assert [(row.position, row.reasons) for row in found.set_aside] == [
        (0, ('"output" is empty; expected text',)),
        (1, ("category is 'Maths'; did you mean 'Math'?",)),
    ]
    for reason in ("problem with the data", "1 labels are unknown"):
        with pytest.raises(UserError, match=reason):
            read_labelled(path, QUESTIONS, strict=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows[1:]))


def test_the_microworld_gives_rows_for_every_question_it_can_answer() -> None:
    rows = microworld_rows(3, FULL_QUESTIONS)

    names = ["category", "difficulty", "input_quality", "language", "safety", "answer_quality"]
    assert [list(row.truth) for row in rows] == [[name] for name in names for _ in range(3)]
    assert [len(row.messages) for row in rows] == [1] * 15 + [2] * 3
    assert rows == microworld_rows(3, FULL_QUESTIONS) != microworld_rows(3, FULL_QUESTIONS, seed=1)


def test_questions_must_match_the_microworlds_labels() -> None:
    with pytest.raises(UserError, match="The questions lack some of the microworld's labels"):
        microworld_rows(1, QUESTIONS)
    mood = Question(name="mood", about="instruction", text="Mood?", labels=("merry", "sad"))
    with pytest.raises(UserError, match="The microworld can answer none of the questions"):
        microworld_rows(1, Questions(listening="Yes?", questions=(mood,)))
