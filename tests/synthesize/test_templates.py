"""Wordings are data: each holds its slots exactly once, and the pools are as large as they claim."""

import string

import pytest

from mlx_suite.synthesize.format import KINDS, Kind
from mlx_suite.synthesize.patterns import ALONE, BESIDE_TEXT
from mlx_suite.synthesize.templates import choice, frames, reasoning

SLOTS = {
    "free": ["answer", "question"],
    "choice": ["answer", "options", "question"],
    "reasoning": ["answer", "question", "reasoning"],
    "both": ["answer", "options", "question", "reasoning"],
}


def slots(wording: str) -> list[str]:
    return sorted(name for _, name, _, _ in string.Formatter().parse(wording) if name is not None)


@pytest.mark.parametrize("kind", KINDS)
def test_every_wording_of_a_kind_holds_each_slot_exactly_once(kind: Kind) -> None:
    for wording in BESIDE_TEXT[kind]:
        assert slots(wording) == SLOTS[kind], wording


@pytest.mark.parametrize("kind", KINDS)
def test_no_wording_is_there_twice(kind: Kind) -> None:
    assert len(set(BESIDE_TEXT[kind])) == len(BESIDE_TEXT[kind])


def test_each_kind_has_dozens_of_wordings_and_options_multiply_them() -> None:
    assert {kind: len(pool) for kind, pool in BESIDE_TEXT.items()} == {
        "free": 52,
        "choice": 35,
        "reasoning": 35,
        "both": 35,
    }
    assert len(set(choice.HEADERS)) * len(set(choice.ENDS)) * len(choice.LABELS) == 2520


def test_wordings_for_pairs_alone_do_not_mention_a_text() -> None:
    for pool in ALONE.values():
        for wording in pool:
            assert "text" not in wording.lower() and "passage" not in wording.lower(), wording


def test_wordings_beside_a_text_do_not_say_whether_it_comes_before_or_after() -> None:
    for pool in BESIDE_TEXT.values():
        for wording in pool:
            assert not {"above", "below", "following"} & set(wording.lower().split()), wording


def test_texts_dialogues_lists_and_few_shot_prompts_hold_their_slots_exactly_once() -> None:
    for wording in (*frames.READ_STARTS, *frames.TEXT_ENDS):
        assert slots(wording) == ["text"], wording
    for wording in frames.TURNS:
        assert slots(wording) == ["name", "turn"], wording
    for numbered in frames.NUMBERED:
        assert slots(numbered.question) == ["n", "question"], numbered
        assert [name for name in slots(numbered.answer) if name != "n"] == ["answer"], numbered
    for few_shot in frames.FEW_SHOT:
        assert slots(few_shot.example) == slots(few_shot.task) == ["answer", "question"], few_shot
    for conclusion in reasoning.CONCLUSIONS:
        assert slots(conclusion) == ["answer", "reasoning"], conclusion


def test_lines_around_texts_and_pairs_hold_no_slots() -> None:
    lines = (
        *frames.COMPREHENSION_STARTS,
        *frames.QUESTION_STARTS,
        *frames.REWRITE_STARTS,
        *frames.DIALOGUE_STARTS,
        *frames.SEPARATORS,
        *choice.HEADERS,
        *choice.ENDS,
        *reasoning.REQUESTS,
        *(text for style in frames.NEXT_TURN for text in (style.start, style.request)),
    )
    for line in lines:
        assert slots(line) == [], line


def test_a_label_is_in_the_list_and_in_the_answer_or_in_neither() -> None:
    for labels in choice.LABELS:
        assert labels.item.count("{}") == labels.answer.count("{}"), labels
