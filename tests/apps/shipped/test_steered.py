"""Documents that train steering: the instruction follows the steering text before it."""

import re
from collections.abc import Callable
from random import Random

import pytest

from mlx_suite.data.steering import CATEGORY_TEXTS
from mlx_suite.microworld import WorldExample, is_heldout, make_world
from mlx_suite.microworld.topics import PERSONAS, TOPICS, words_about
from mlx_suite_apps.shipped.corpus import encode_text
from mlx_suite_apps.shipped.steered import SteeredExample, write_steered
from tests.apps.shipped.conftest import Made

WORLD = make_world()
TURN = WorldExample(task="add", category="Math", difficulty="easy", instruction="Hi?", answer="No.")


@pytest.fixture(scope="module")
def drawn() -> list[SteeredExample]:
    rng = Random(0)
    return [write_steered(rng, WORLD) for _ in range(500)]


def obeys(sentence: str, turn: WorldExample) -> bool:
    """Whether an instruction agrees with one sentence of a steering text."""
    for category, text in CATEGORY_TEXTS.items():
        if sentence == text:
            return turn.category == category
    if found := re.fullmatch(r"The user asks for something (.+)\.", sentence):
        return turn.difficulty == found[1]
    if found := re.fullmatch(r"The user asks about (.+)\.", sentence):
        topic = found[1]
        return topic in turn.instruction or bool(words_about(turn.instruction, topic))
    found = re.fullmatch(r"The user is (.+)\.", sentence)
    assert found is not None, sentence
    return turn.task in PERSONAS[found[1]]


def test_every_instruction_agrees_with_its_steering_text(drawn: list[SteeredExample]) -> None:
    for each in drawn:
        for sentence in re.split(r"(?<=\.) ", each.text):
            assert all(obeys(sentence, turn) for turn in each.turns), each


def test_dimensions_occur_alone_and_in_pairs_in_both_orders(drawn: list[SteeredExample]) -> None:
    texts = [each.text for each in drawn]
    assert set(CATEGORY_TEXTS.values()) <= set(texts)
    assert {f"The user is {persona}." for persona in PERSONAS} <= set(texts)
    assert {f"The user asks about {topic}." for topic in TOPICS} & set(texts)
    pairs = [text for text in texts if text.count(".") == 2]
    assert 0.15 < len(pairs) / len(texts) < 0.4
    category = tuple(CATEGORY_TEXTS.values())
    assert any(text.startswith(category) for text in pairs) and any(text.endswith(category) for text in pairs)


def test_some_conversations_have_two_turns_and_none_is_held_out(drawn: list[SteeredExample]) -> None:
    assert {len(each.turns) for each in drawn} == {1, 2}
    assert not [turn for each in drawn for turn in each.turns if is_heldout(turn.instruction)]


@pytest.mark.parametrize(
    ("name", "silent"),
    [
        ("tiny-llama3", "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe."),
        (
            "tiny-gemma2",
            "<bos><start_of_turn>user\nBe.<end_of_turn>\n<start_of_turn>model\nUnderstood.",
        ),
    ],
)
def test_the_steering_text_has_no_weight_and_the_user_turn_the_given_one(
    name: str, silent: str, made: Callable[[str], Made]
) -> None:
    one = made(name)
    document = encode_text(
        one.tokenizer,
        one.template,
        SteeredExample(text="Be.", turns=(TURN,)),
        end=0,
        user_weight=1.0,
        steered_user_weight=0.5,
    )
    by_weight = {
        wanted: one.tokenizer.decode(
            [token for token, weight in zip(document.tokens, document.weights, strict=True) if weight == wanted],
            skip_special=False,
        )
        for wanted in (0.0, 0.5)
    }
    assert by_weight == {0.0: silent, 0.5: "Hi?"}
    assert set(document.weights) == {0.0, 0.5, 1.0}
