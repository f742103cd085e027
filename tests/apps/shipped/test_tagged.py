"""Documents that train tagging: their questions, and that only labels are trained on."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from mlx_suite.data.questions import read_questions, write_questions
from mlx_suite.microworld import make_world
from mlx_suite.microworld.tagging import Tagged
from mlx_suite_apps.shipped.corpus import encode_text
from mlx_suite_apps.shipped.tagged import ASKED_SHARES, BRIEF, Asked, write_asked
from tests.apps.shipped.conftest import Made

WORLD = make_world()
ABOUT_INSTRUCTION = Asked(
    tagged=Tagged(instruction="Hi?", labels={"safety": "safe", "language": "English"}), names=("safety", "language")
)
ABOUT_ANSWER = Asked(
    tagged=Tagged(instruction="Hi?", answer="No.", labels={"answer_quality": "poor"}), names=("answer_quality",)
)


def test_the_brief_questions_survive_the_round_trip(tmp_path: Path) -> None:
    write_questions(BRIEF, tmp_path / "tag_questions.json")
    assert read_questions(tmp_path / "tag_questions.json") == BRIEF
    assert BRIEF.listening == "Yes?"
    assert [question.name for question in BRIEF.about("answer")] == ["answer_quality"]
    assert BRIEF.named("safety").labels == ("safe", "unsafe")


def test_questions_are_asked_in_user_turns_after_the_conversation() -> None:
    assert [(each.role, each.content, each.trained) for each in ABOUT_INSTRUCTION.messages] == [
        ("user", "Hi?", False),
        ("assistant", "Yes?", False),
        ("user", "Safe?", False),
        ("assistant", "safe", True),
        ("user", "Language?", False),
        ("assistant", "English", True),
    ]
    assert [(each.role, each.content, each.trained) for each in ABOUT_ANSWER.messages] == [
        ("user", "Hi?", False),
        ("assistant", "No.", False),
        ("user", "Good answer?", False),
        ("assistant", "poor", True),
    ]


def test_one_to_three_questions_are_asked_and_each_occurs_often() -> None:
    rng = Random(0)
    drawn = [write_asked(rng, WORLD) for _ in range(600)]
    assert {len(each.names) for each in drawn} == {1, 2, 3}
    assert all(len(set(each.names)) == len(each.names) for each in drawn)
    counts = Counter(name for each in drawn for name in each.names)
    assert set(counts) == set(ASKED_SHARES)
    assert all(count > 100 for count in counts.values())
    assert {len(each.names) for each in drawn if each.tagged.answer is not None} == {1}


@pytest.mark.parametrize("name", ["tiny-llama3", "tiny-gemma2"])
@pytest.mark.parametrize("asked", [ABOUT_INSTRUCTION, ABOUT_ANSWER])
def test_only_labels_and_their_stop_tokens_have_weight(name: str, asked: Asked, made: Callable[[str], Made]) -> None:
    one = made(name)
    document = encode_text(one.tokenizer, one.template, asked, end=0, user_weight=1.0)
    counted = [token for token, weight in zip(document.tokens, document.weights, strict=True) if weight]
    end = {"tiny-llama3": "<|eot_id|>", "tiny-gemma2": "<end_of_turn>"}[name]
    labels = "".join(asked.tagged.labels[name] + end for name in asked.names)
    assert one.tokenizer.decode(counted, skip_special=False) == labels
    assert set(document.weights) == {0.0, 1.0}
