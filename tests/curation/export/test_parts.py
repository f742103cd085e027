"""Parts between which no near-duplicates are shared, as large as they were asked for."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_suite.curation.export.parts import divide
from mlx_suite.runtime.errors import UserError
from tests.magpie.rows import row

SHARES = st.floats(0, 0.45)
CLUSTERS = st.lists(st.integers(0, 12), min_size=3, max_size=60)


def sizes(clusters: list[int], seed: int = 0, **shares: float) -> dict[str, int]:
    rows = [row(f"q{number}") for number in range(len(clusters))]
    return {part: len(numbers) for part, numbers in divide(rows, clusters, shares, seed).items()}


def test_rows_that_are_like_no_other_are_split_exactly() -> None:
    assert sizes(list(range(100)), valid=0.1, test=0.2) == {"train": 70, "valid": 10, "test": 20}
    assert sizes(list(range(3)), valid=0.1, test=0.1) == {"train": 1, "valid": 1, "test": 1}


def test_a_large_group_is_trained_on_and_the_others_come_as_near_as_they_can() -> None:
    assert sizes([0] * 80 + list(range(1, 21)), valid=0.1, test=0.1) == {"train": 80, "valid": 10, "test": 10}
    assert sizes([0] * 95 + list(range(1, 6)), valid=0.1, test=0.1) == {"train": 95, "valid": 3, "test": 2}
    assert sizes([0] * 50 + [1] * 49 + [2], valid=0.1, test=0.1) == {"train": 50, "valid": 1, "test": 49}


def test_no_share_is_no_part() -> None:
    assert sizes([0, 1, 2], valid=0.0, test=0.3) == {"train": 2, "test": 1}


def test_fewer_groups_than_parts_are_refused() -> None:
    with pytest.raises(UserError, match="there are 9, in 2 groups of near-duplicates"):
        sizes([0] * 8 + [1], valid=0.1, test=0.1)


@settings(max_examples=60, deadline=None)
@given(CLUSTERS, SHARES, SHARES, st.integers(0, 3))
def test_every_row_is_in_one_part_no_group_is_in_two_and_no_part_is_empty(
    clusters: list[int], valid: float, test: float, seed: int
) -> None:
    rows = [row(f"q{number}") for number in range(len(clusters))]
    wanted = {"valid": valid, "test": test}
    parts = 1 + sum(share > 0 for share in wanted.values())
    if len(set(clusters)) < parts:
        return
    found = divide(rows, clusters, wanted, seed)
    assert sorted(number for numbers in found.values() for number in numbers) == list(range(len(rows)))
    groups = [{clusters[number] for number in numbers} for numbers in found.values()]
    assert all(groups) and len(groups) == parts
    assert sum(map(len, groups)) == len(set(clusters))
    largest = max(Counter(clusters).values())
    for part, share in wanted.items():
        assert abs(len(found.get(part, ())) - share * len(rows)) <= 2 * largest


@settings(max_examples=60, deadline=None)
@given(CLUSTERS, st.integers(0, 3), st.randoms())
def test_the_same_rows_in_another_order_are_split_the_same_way(clusters: list[int], seed: int, random: object) -> None:
    if len(set(clusters)) < 2:
        return
    rows = [row(f"q{number}") for number in range(len(clusters))]
    order = list(range(len(rows)))
    random.shuffle(order)  # type: ignore[attr-defined]
    first = divide(rows, clusters, {"valid": 0.2}, seed)
    second = divide([rows[n] for n in order], [clusters[n] for n in order], {"valid": 0.2}, seed)
    assert {part: sorted(order[n] for n in numbers) for part, numbers in second.items()} == {
        part: list(numbers) for part, numbers in first.items()
    }


def test_another_seed_splits_otherwise() -> None:
    rows = [row(f"q{number}") for number in range(40)]
    assert divide(rows, range(40), {"valid": 0.2}, 0) != divide(rows, range(40), {"valid": 0.2}, 1)
