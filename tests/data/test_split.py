"""Splitting off validation examples."""

from hypothesis import given
from hypothesis import strategies as st

from mlx_suite.data.dataset import split
from mlx_suite.data.example import Example
from mlx_suite.text import Message


def texts(*contents: str) -> list[Example]:
    return [Example(text=content, place=f"a.jsonl:{line}") for line, content in enumerate(contents, start=1)]


def numbered(count: int) -> list[Example]:
    return texts(*map(str, range(count)))


def test_a_share_is_split_off_and_the_order_is_kept() -> None:
    examples = numbered(1000)
    train, valid = split(examples, 0.05, seed=0)
    assert (len(train), len(valid)) == (950, 50)
    assert sorted([*train, *valid], key=examples.index) == examples
    assert list(train) == sorted(train, key=examples.index) and list(valid) == sorted(valid, key=examples.index)


def test_the_split_depends_on_the_seed() -> None:
    examples = numbered(200)
    assert split(examples, 0.1, seed=3) == split(examples, 0.1, seed=3)
    assert split(examples, 0.1, seed=3) != split(examples, 0.1, seed=4)


def test_twenty_examples_give_one_for_validation_and_fewer_give_none() -> None:
    assert len(split(numbered(20), 0.01, seed=0)[1]) == 1
    assert split(numbered(19), 0.5, seed=0) == (tuple(numbered(19)), ())
    assert split(numbered(100), 0.0, seed=0)[1] == ()


def test_the_validation_set_is_limited() -> None:
    assert len(split(numbered(300), 0.5, seed=0, most=20)[1]) == 20


def test_duplicate_conversations_stay_on_one_side() -> None:
    answer = Message("assistant", "So.")
    examples = [Example(messages=(Message("user", str(i // 2)), answer), place=f"a:{i}") for i in range(100)]
    train, valid = split(examples, 0.2, seed=0)
    assert len(valid) == 20
    assert not {one.messages for one in train} & {one.messages for one in valid}


def test_copies_of_one_row_cannot_be_split() -> None:
    assert split(texts(*["same"] * 50), 0.1, seed=0)[1] == ()


def test_the_smallest_group_is_used_if_all_are_larger_than_the_target() -> None:
    train, valid = split(texts(*["a"] * 20, *["b"] * 10), 0.1, seed=0)
    assert {one.text for one in valid} == {"b"} and len(valid) == 10 and len(train) == 20


def test_new_rows_leave_the_others_on_the_same_side() -> None:
    before = set(split(numbered(1000), 0.1, seed=0)[1])
    after = set(split([*numbered(1000), *texts(*(f"new {i}" for i in range(10)))], 0.1, seed=0)[1])
    assert len(before - after) <= 3


@given(st.lists(st.sampled_from("abcdefghij"), max_size=80), st.floats(0.01, 0.9), st.integers(0, 5))
def test_no_example_is_lost_and_no_text_is_on_both_sides(contents: list[str], share: float, seed: int) -> None:
    examples = texts(*contents)
    train, valid = split(examples, share, seed)
    assert sorted(one.place for one in (*train, *valid)) == sorted(one.place for one in examples)
    assert not {one.text for one in train} & {one.text for one in valid}
    assert bool(valid) == (len(examples) >= 20 and len(set(contents)) > 1)
