"""M-shot rounds: which texts are chained, where a chain breaks, and that no text is lost or doubled."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mlx_suite.synthesize.format import Example, Pair
from mlx_suite.synthesize.rounds import ChainItem, fit_prompt, plan_chains, split_chain

EXAMPLE = Example(text="a", pairs=(Pair(question="b", answer="c"),))


def test_two_rounds_chain_the_first_half_with_the_second() -> None:
    assert plan_chains(6, 2) == [(0, 3), (1, 4), (2, 5)]


def test_a_count_that_the_rounds_do_not_divide_leaves_shorter_chains() -> None:
    assert plan_chains(7, 3) == [(0, 3, 6), (1, 4), (2, 5)]


def test_one_round_shows_no_examples_and_no_texts_give_no_chains() -> None:
    assert plan_chains(3, 1) == [(0,), (1,), (2,)]
    assert plan_chains(0, 2) == []


@given(st.integers(0, 60), st.integers(1, 9))
def test_every_text_is_in_exactly_one_chain_of_at_most_as_many_texts_as_rounds(count: int, rounds: int) -> None:
    chains = plan_chains(count, rounds)
    assert Counter(place for chain in chains for place in chain) == Counter(range(count))
    assert all(1 <= len(chain) <= rounds for chain in chains)
    assert len(chains) == -(-count // rounds)


def test_a_prompt_that_is_too_long_with_examples_is_made_without_them() -> None:
    def encode(chain: object) -> list[int]:
        return [1] * (30 if chain else 10)

    whole = fit_prompt([EXAMPLE], encode, room=30)
    assert whole is not None and (len(whole.ids), whole.shots) == (30, 1)
    alone = fit_prompt([EXAMPLE], encode, room=29)
    assert alone is not None and (len(alone.ids), alone.shots) == (10, 0)
    assert fit_prompt([EXAMPLE], encode, room=9) is None


def item(value: str, shots: int, is_empty: bool = False) -> ChainItem[str]:
    return ChainItem(value=value, shots=shots, is_empty=is_empty)


def test_texts_that_were_prompted_after_one_another_are_one_document() -> None:
    assert split_chain([item("a", 0), item("b", 1), item("c", 2)]) == [["a", "b", "c"]]


def test_a_text_without_examples_in_its_prompt_begins_a_document() -> None:
    assert split_chain([item("a", 0), item("b", 0), item("c", 1)]) == [["a"], ["b", "c"]]


def test_a_text_from_which_nothing_was_written_is_a_document_of_its_own() -> None:
    assert split_chain([item("a", 0), item("b", 1, is_empty=True), item("c", 0)]) == [["a"], ["b"], ["c"]]
