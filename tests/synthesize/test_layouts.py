"""Pretraining texts: five layouts in their shares, one set of wordings per chain, the same text from the same seed."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_suite.synthesize import layouts
from mlx_suite.synthesize.format import Example, Pair, Rewrite
from mlx_suite.synthesize.layouts import choose_layout, lay_out, pairs_alone, pretraining_text, text_alone
from mlx_suite.synthesize.options import OptionStyle
from mlx_suite.synthesize.patterns import PatternSet, Streams, draw_patterns
from mlx_suite.synthesize.templates import frames
from mlx_suite.synthesize.templates.choice import LabelStyle

TEXT = "Ada was born in 1950. Ben was born in 1960."
FREE = Pair(question="When was Ada born?", answer="1950")
CHOICE = Pair(question="Who is mentioned?", options=("Ida", "Ada"), answer="Ada")
REASONED = Pair(question="Who is older?", reasoning="1950 is before 1960.", answer="Ada")
BOTH = Pair(question="Who is younger?", options=("Ada", "Ben"), reasoning="1960 is later.", answer="Ben")
FULL = Example(text=TEXT, pairs=(FREE, CHOICE, REASONED, BOTH))
ONE = Example(text=TEXT, pairs=(FREE,))
RAW = Example(text="Nobody asks about this.")
PATTERNS = replace(
    draw_patterns(Streams(seed=0, number=0), inverted=0),
    pairs={
        "free": "Question: {question}\nAnswer: {answer}",
        "choice": "Question: {question}\n{options}\nAnswer: {answer}",
        "reasoning": "Question: {question}\nThoughts: {reasoning}\nAnswer: {answer}",
        "both": "Question: {question}\n{options}\nThoughts: {reasoning}\nAnswer: {answer}",
    },
    options=OptionStyle(header="Options:", end="", labels=LabelStyle("-", ""), names_item=False),
    request="Why?",
    conclusion="{reasoning} So {answer}.",
    text="Text: {text}",
    pairs_start="Questions:",
    pair_gap="\n\n",
    separator="\n\n---\n\n",
    speakers=("Q", "A"),
    turn="{name}: {turn}",
    dialogue_start="They talk.",
    numbered=frames.NumberedStyle("{n}. {question}", "{answer}"),
    few_shot=frames.FewShotStyle("Examples:", "{question} → {answer}", "Now you:", "{question} → {answer}"),
    next_turn=frames.NextTurnStyle("So far:", "Next:"),
)
"""One set of wordings for literal expectations."""


def written(monkeypatch: pytest.MonkeyPatch, layout: float, *examples: Example, inverted: bool = False) -> str:
    """The text with the wordings above and the layout at a position of its distribution."""
    patterns = replace(PATTERNS, layout=layout, is_inverted=inverted)
    monkeypatch.setattr(layouts, "draw_patterns", lambda streams, **options: patterns)
    return pretraining_text(examples, seed=0, number=0)


TWO = Example(text="Ada bakes.", pairs=(Pair(question="Who?", answer="Ada"), REASONED))


def test_classic_puts_one_pair_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    assert written(monkeypatch, 0.0, TWO) == (
        "Text: Ada bakes.\n\nQuestions:\n\nQuestion: Who?\nAnswer: Ada\n\n"
        "Question: Who is older?\nThoughts: 1950 is before 1960.\nAnswer: Ada"
    )


def test_numbered_pairs_count_from_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert written(monkeypatch, 0.81, TWO) == (
        "Text: Ada bakes.\n\n1. Who?\nAda\n\n2. Who is older? Why?\n1950 is before 1960. So Ada."
    )


def test_answers_may_follow_after_all_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    apart = frames.NumberedStyle("Q{n}: {question}", "A{n}: {answer}", apart=True, answers_start="Key:")
    monkeypatch.setattr("tests.synthesize.test_layouts.PATTERNS", replace(PATTERNS, numbered=apart))
    assert written(monkeypatch, 0.81, TWO) == (
        "Text: Ada bakes.\n\nQ1: Who?\nQ2: Who is older? Why?\n\nKey:\nA1: Ada\nA2: 1950 is before 1960. So Ada."
    )


def test_few_shot_shows_the_earlier_pairs_as_examples_of_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    assert written(monkeypatch, 0.86, TWO) == (
        "Text: Ada bakes.\n\nExamples:\nWho? → Ada\n\nNow you:\nWho is older? Why? → 1950 is before 1960. So Ada."
    )


def test_next_turn_asks_for_the_last_turn_of_a_dialogue(monkeypatch: pytest.MonkeyPatch) -> None:
    assert written(monkeypatch, 0.91, TWO) == (
        "Text: Ada bakes.\n\nSo far:\nQ: Who?\nA: Ada\nQ: Who is older? Why?\nNext:\nA: 1950 is before 1960. So Ada."
    )


def test_a_dialogue_has_two_speakers_and_shows_options(monkeypatch: pytest.MonkeyPatch) -> None:
    example = Example(text="Ada bakes.", pairs=(Pair(question="Who?", options=("Ada", "Ada Fox"), answer="Ada"),))
    text = written(monkeypatch, 0.96, example)
    assert text.startswith("Text: Ada bakes.\n\nThey talk.\nQ: Who?\nOptions:\n- Ada")
    assert text.endswith("\nA: Ada")


def test_inverted_the_pairs_come_before_their_text(monkeypatch: pytest.MonkeyPatch) -> None:
    assert written(monkeypatch, 0.0, ONE, RAW, inverted=True) == (
        f"Questions:\n\nQuestion: When was Ada born?\nAnswer: 1950\n\nText: {TEXT}\n\n---\n\nNobody asks about this."
    )


def test_a_rewrite_follows_its_text_or_inverted_precedes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.synthesize.test_layouts.PATTERNS", replace(PATTERNS, rewrite_start="Again:"))
    example = Example(text="Ada bakes.", rewrite=Rewrite(form="prose", text="A baker is Ada."))
    assert written(monkeypatch, 0.0, example) == "Ada bakes.\n\nAgain:\n\nA baker is Ada."
    assert written(monkeypatch, 0.0, example, inverted=True) == "A baker is Ada.\n\nAgain:\n\nAda bakes."


def test_a_text_without_pairs_is_raw_text() -> None:
    assert all(pretraining_text([RAW], seed=0, number=number) == RAW.text for number in range(50))


def test_a_text_whose_only_pair_is_dropped_is_raw_text() -> None:
    wrong = Example(text=TEXT, pairs=(Pair(question="Who?", options=("Ida", "Eva"), answer="Ada"),))
    laid = lay_out([wrong], seed=0, number=0)
    assert (laid.text, laid.layouts, laid.pairs) == (TEXT, ("raw",), 0)
    assert laid.dropped == {"answer not among the options": 1}


def test_the_same_seed_and_number_give_the_same_text_and_others_do_not() -> None:
    texts = [pretraining_text([FULL, ONE], seed=seed, number=number) for seed in range(3) for number in range(20)]
    again = [pretraining_text([FULL, ONE], seed=seed, number=number) for seed in range(3) for number in range(20)]
    assert texts == again
    assert len(set(texts)) == 60


def test_all_examples_of_a_chain_share_their_wordings() -> None:
    for number in range(60):
        first, second = (Example(text=f"Text {n}.", pairs=ONE.pairs) for n in (1, 2))
        separator = draw_patterns(Streams(seed=0, number=number), inverted=0).separator
        parts = pretraining_text([first, second], seed=0, number=number).replace("Text 2.", "Text 1.")
        half = (len(parts) - len(separator)) // 2
        assert parts == f"{parts[:half]}{separator}{parts[:half]}"


def test_layouts_and_inversions_have_their_shares() -> None:
    found: Counter[str] = Counter()
    inverted = 0
    for number in range(4000):
        patterns = draw_patterns(Streams(seed=5, number=number), inverted=0.05)
        found[choose_layout(patterns.layout, 2)] += 1
        inverted += patterns.is_inverted
    # Four standard deviations: 101 of 3200, 55 of 200.
    assert abs(found["classic"] - 3200) < 101
    for layout in ("numbered", "few-shot", "next turn", "dialogue"):
        assert abs(found[layout] - 200) < 55, layout
    assert abs(inverted - 200) < 55


def test_one_pair_is_classic_or_a_dialogue() -> None:
    assert [choose_layout(at, 1) for at in (0.0, 0.94, 0.96, 0.999)] == ["classic", "classic", "dialogue", "dialogue"]
    assert [choose_layout(at, 2) for at in (0.0, 0.79, 0.81, 0.86, 0.91, 0.96)] == [
        *("classic", "classic", "numbered", "few-shot", "next turn", "dialogue")
    ]


def test_the_share_of_inversions_may_be_none_or_all() -> None:
    for number in range(30):
        usual, turned = (pretraining_text([ONE], seed=0, number=number, inverted=share) for share in (0.0, 1.0))
        assert usual.index(TEXT) < usual.index("When was Ada born?")
        assert turned.index(TEXT) > turned.index("When was Ada born?")


def test_choices_of_different_pools_are_independent() -> None:
    # With one stream for both, the separator would tell the end of the options.
    together: Counter[tuple[str, str]] = Counter()
    for number in range(2000):
        patterns = draw_patterns(Streams(seed=0, number=number), inverted=0)
        together[patterns.separator, patterns.options.end] += 1
    separators, ends = ({pair[side] for pair in together} for side in (0, 1))
    assert len(together) == len(separators) * len(ends) == 35


def test_texts_and_pairs_can_stand_apart() -> None:
    chain = [FULL, RAW]
    for number in range(40):
        patterns = draw_patterns(Streams(seed=0, number=number), inverted=0)
        assert text_alone(chain, seed=0, number=number) == f"{TEXT}{patterns.separator}{RAW.text}"
        pairs = pairs_alone(chain, seed=0, number=number)
        assert "When was Ada born?" in pairs and "1960 is later." in pairs
        assert TEXT not in pairs and RAW.text not in pairs
        assert "passage" not in pairs.lower() and "text" not in pairs.lower()
    assert pairs_alone([RAW], seed=0, number=0) == ""


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=30)
some_pairs = st.builds(
    Pair,
    question=words,
    answer=words,
    options=st.one_of(st.just(()), st.lists(words, min_size=2, max_size=5).map(tuple)),
    reasoning=st.one_of(st.just(""), words),
)
some_examples = st.builds(Example, text=words, pairs=st.lists(some_pairs, max_size=4).map(tuple))


@given(st.lists(some_examples, min_size=1, max_size=3), st.integers(0, 10**6), st.booleans())
def test_no_text_and_no_question_is_lost_whatever_it_contains(
    chain: list[Example], number: int, inverted: bool
) -> None:
    laid = lay_out(chain, seed=1, number=number, inverted=float(inverted))
    for example in chain:
        assert example.text in laid.text
        assert all(pair.question in laid.text for pair in example.pairs if not pair.options)
    assert laid.pairs + laid.dropped.total() == sum(len(example.pairs) for example in chain)


def test_every_wording_is_drawn_sooner_or_later() -> None:
    drawn: list[PatternSet] = [draw_patterns(Streams(seed=0, number=number), inverted=0) for number in range(600)]
    assert {patterns.separator for patterns in drawn} == set(frames.SEPARATORS)
    assert {patterns.speakers for patterns in drawn} == set(frames.SPEAKERS)
    assert {patterns.text for patterns in drawn} == set(frames.READ_STARTS)
