"""Options: shuffled with a stream of their own, labelled, and the answer rewritten to the label."""

from collections import Counter
from random import Random

import pytest

from mlx_suite.synthesize.format import Example, Pair
from mlx_suite.synthesize.layouts import lay_out
from mlx_suite.synthesize.options import OptionStyle, ShownOptions, show_options, without_labels
from mlx_suite.synthesize.templates.choice import LabelStyle

LETTERS = OptionStyle(header="Options:", end="Choose.", labels=LabelStyle("({})", "({})"), names_item=False)
PAIR = Pair(question="Who bakes?", options=("Ada", "Ben", "Ida"), answer="Ben")


class Unshuffled(Random):
    """Leaves every order as it is."""

    def shuffle(self, x: object) -> None:
        pass


def shown(pair: Pair, style: OptionStyle = LETTERS) -> ShownOptions:
    result = show_options(pair, style, Unshuffled())
    assert isinstance(result, ShownOptions)
    return result


def test_options_get_a_header_labels_and_an_end_and_the_answer_is_the_label() -> None:
    assert shown(PAIR).block == "Options:\n(A) Ada\n(B) Ben\n(C) Ida\nChoose."
    assert shown(PAIR).answer == "(B)"


@pytest.mark.parametrize(
    ("labels", "names_item", "second", "answer"),
    [
        (LabelStyle("{}.", "{}"), False, "B. Ben", "B"),
        (LabelStyle("{}.", "{}"), True, "B. Ben", "B. Ben"),
        (LabelStyle("{})", "{}", ""), False, "2) Ben", "2"),
        (LabelStyle("[{}]", "[{}]", "abc"), False, "[b] Ben", "[b]"),
        (LabelStyle("{}:", "{}", "a"), False, "2: Ben", "2"),
        (LabelStyle("-", ""), False, "- Ben", "Ben"),
        (LabelStyle("-", ""), True, "- Ben", "Ben"),
    ],
)
def test_the_answer_follows_the_style_of_the_labels(
    labels: LabelStyle, names_item: bool, second: str, answer: str
) -> None:
    result = shown(PAIR, OptionStyle(header="", end="", labels=labels, names_item=names_item))
    assert result.block.splitlines()[1] == second
    assert result.answer == answer


def test_an_answer_in_other_case_with_a_full_stop_is_still_its_option() -> None:
    assert shown(Pair(question="Who?", options=("Ada", "Ben"), answer="ben.")).answer == "(B)"


def test_an_answer_that_is_no_option_and_a_single_option_are_reasons_to_drop_the_pair() -> None:
    unknown = Pair(question="Who?", options=("Ada", "Ben"), answer="Ida")
    single = Pair(question="Who?", options=("Ada", "ada."), answer="Ada")
    assert show_options(unknown, LETTERS, Unshuffled()) == "answer not among the options"
    assert show_options(single, LETTERS, Unshuffled()) == "fewer than two options"


@pytest.mark.parametrize(
    ("options", "answer", "plain", "right"),
    [
        (("A) Ada", "B) Ben"), "B", ("Ada", "Ben"), "Ben"),
        (("A)32400", "B)6000"), "B)6000", ("32400", "6000"), "6000"),
        (("(a) Ada", "(b) Ben"), "(b)", ("Ada", "Ben"), "Ben"),
        (("1. Ada", "2. Ben"), "2.", ("Ada", "Ben"), "Ben"),
        (("A. Ada", "B. Ben"), "Ada", ("Ada", "Ben"), "Ada"),
        (("1.5 km", "2.5 km"), "2.5 km", ("1.5 km", "2.5 km"), "2.5 km"),
        (("1:30", "2:30"), "1:30", ("1:30", "2:30"), "1:30"),
        (("B) Ada", "A) Ben"), "A) Ben", ("B) Ada", "A) Ben"), "A) Ben"),
        (("A) Ada", "Ben"), "Ben", ("A) Ada", "Ben"), "Ben"),
    ],
)
def test_labels_in_order_are_removed_and_others_are_part_of_the_option(
    options: tuple[str, ...], answer: str, plain: tuple[str, ...], right: str
) -> None:
    pair = without_labels(Pair(question="Which?", options=options, answer=answer))
    assert (pair.options, pair.answer) == (plain, right)


def test_a_label_as_the_answer_is_found_after_shuffling() -> None:
    pair = Pair(question="Which?", options=("A) Ada", "B) Ben", "C) Ida"), answer="C")
    bullets = OptionStyle(header="", end="", labels=LabelStyle("-", ""), names_item=False)
    for seed in range(8):
        result = show_options(pair, bullets, Random(seed))
        assert isinstance(result, ShownOptions) and result.answer == "Ida"
        assert sorted(result.block.splitlines()) == ["- Ada", "- Ben", "- Ida"]


def test_the_right_option_is_equally_often_at_every_place_wherever_the_synthesizer_had_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    places: list[int] = []

    def recorded(pair: Pair, style: OptionStyle, rng: Random) -> ShownOptions | str:
        result = show_options(pair, style, rng)
        assert isinstance(result, ShownOptions)
        places.append(result.position)
        return result

    monkeypatch.setattr("mlx_suite.synthesize.layouts.show_options", recorded)
    # Always the first, as a biased synthesizer has it.
    pair = Pair(question="Who?", options=("right", "one", "two", "three"), answer="right")
    for number in range(400):
        lay_out([Example(text="Text.", pairs=(pair, pair))], seed=3, number=number)
    # 3 degrees of freedom: 16.3 is the 0.1 % point of chi-square.
    for nth in (0, 1):
        counts = Counter(places[nth::2])
        assert sum((counts[place] - 100) ** 2 / 100 for place in range(4)) < 16.3, counts
    # 15 degrees of freedom, 37.7: where the first pair has its answer says nothing about the second.
    both = Counter(zip(places[::2], places[1::2], strict=True))
    assert sum((both[one, two] - 25) ** 2 / 25 for one in range(4) for two in range(4)) < 37.7, both
