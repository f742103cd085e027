"""Loops are found in prose, lists, code and signs; texts that repeat with good reason are kept at every length."""

import pytest

from mlx_suite.text.loops import Loop, loop_check, loop_of
from tests.text.loop_texts import GOOD, LOOPING


@pytest.mark.parametrize("name", LOOPING)
def test_a_looping_text_is_found(name: str) -> None:
    found = loop_of(LOOPING[name])
    assert found is not None
    assert found.times >= 3


@pytest.mark.parametrize("name", GOOD)
def test_a_good_text_is_kept_at_every_length(name: str) -> None:
    text = GOOD[name]
    assert [end for end in range(1, len(text) + 1, 7) if loop_of(text[:end])] == []
    assert loop_of(text) is None


def test_the_block_and_its_repetitions_are_told() -> None:
    found = loop_of("The answer is no. " + "I do not know what you want. " * 12)
    assert found is not None
    assert (sorted(found.block.split()), found.times) == (sorted("i do not know what you want.".split()), 12)


def test_one_digit_may_fill_a_googol_but_not_two() -> None:
    assert loop_of("A googol is 1" + "0" * 100) is None
    assert loop_of("15 kilometers is 15" + "0" * 200) == Loop(block="0", times=200)


def test_a_text_is_kept_if_its_loop_has_ended() -> None:
    assert loop_of("I do not know what you want. " * 12 + "Oh, you want the time: it is noon.") is None


def test_a_text_in_flight_is_searched_only_if_few_of_its_tokens_are_new() -> None:
    decoded: list[int] = []

    def decode(tokens: object) -> str:
        decoded.append(len(tokens))  # type: ignore[arg-type]
        return "I do not know what you want. " * 20

    loops = loop_check(decode)
    assert not loops(list(range(512)))
    assert not loops([1, 2, 3] * 20)
    assert decoded == []
    assert loops(list(range(20)) * 8)
    assert decoded == [160]


@pytest.mark.parametrize("name", LOOPING)
def test_a_loop_is_found_in_flight_once_it_is_long_enough(name: str) -> None:
    """Words, or the characters of a text with hardly any, stand for tokens; the loop goes on."""
    text = LOOPING[name]
    words = text.replace("\n", " \n ").split(" ")
    gap, tokens = (" ", words * 12) if len(words) > 16 else ("", list(text * 2))
    loops = loop_check(lambda ids: gap.join(map(str, ids)))
    assert any(loops(tokens[:end]) for end in range(32, len(tokens) + 1, 32))  # type: ignore[arg-type]
