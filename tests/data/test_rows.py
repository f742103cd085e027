"""Packing of documents into rows."""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_suite.data.batch.rows import Document, Rows, pack
from mlx_suite.microworld import make_world
from mlx_suite_apps.shipped.corpus import documents

DOCUMENTS = st.lists(st.lists(st.integers(0, 99), max_size=14), max_size=40)


def packed(contents: Iterable[Sequence[int]], length: int) -> Rows:
    """Pack documents in which every token is trained."""
    return pack((Document.whole(tokens) for tokens in contents), length)


def texts(rows: Rows) -> list[tuple[int, ...]]:
    """The documents in the rows, row by row."""
    found = []
    for tokens, numbers in zip(rows.tokens, rows.document, strict=True):
        for number, places in itertools.groupby(range(len(tokens)), key=lambda place: numbers[place]):
            if number:
                found.append(tuple(int(tokens[place]) for place in places))
    return found


# ---- packing


def test_documents_are_concatenated_in_their_rows() -> None:
    rows = packed([[1] * 3, [2] * 12, [3] * 5, [4] * 9], length=13)

    assert rows.tokens.tolist() == [
        [2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 0, 0],
        [4, 4, 4, 4, 4, 4, 4, 4, 4, 0, 0, 0, 0, 0],
        [3, 3, 3, 3, 3, 1, 1, 1, 0, 0, 0, 0, 0, 0],
    ]
    assert rows.document.tolist() == [
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 2, 2, 2, 0, 0, 0, 0, 0, 0],
    ]
    assert len(rows) == 3
    assert rows.padding == pytest.approx(13 / 42)
    assert rows.dropped == 0


def test_a_document_goes_into_the_row_it_fits_best() -> None:
    # 20 and 25 of 40 tokens leave 20 and 15 free: 15 fits both rows, and the second exactly.
    rows = packed([[1] * 25, [2] * 20, [3] * 15, [4] * 20], length=39)

    assert [sorted(set(row.tolist())) for row in rows.tokens] == [[1, 3], [2, 4]]
    assert rows.padding == 0.0


@settings(deadline=None)
@given(contents=DOCUMENTS, length=st.integers(1, 12))
def test_every_document_is_packed_complete_and_once(contents: list[list[int]], length: int) -> None:
    rows = packed(contents, length)

    fitting = [tuple(document) for document in contents if 2 <= len(document) <= length + 1]
    assert Counter(texts(rows)) == Counter(fitting)
    assert rows.dropped == len(contents) - len(fitting)
    assert rows.tokens.shape == rows.document.shape == (len(rows), length + 1)


@settings(deadline=None)
@given(contents=DOCUMENTS, length=st.integers(1, 12))
def test_only_tokens_after_a_token_of_the_same_document_are_trained(contents: list[list[int]], length: int) -> None:
    rows = packed(contents, length)

    assert rows.target_weights.shape == (len(rows), length)
    for weights, numbers in zip(rows.target_weights, rows.document, strict=True):
        pairs = list(itertools.pairwise(numbers.tolist()))
        assert weights.tolist() == [float(before == after != 0) for before, after in pairs]
    assert rows.target_weights.sum() == sum(len(text) - 1 for text in texts(rows))


def test_a_token_is_weighted_as_the_target_of_the_token_before_it() -> None:
    rows = pack([Document([1, 2, 3], [1.0, 0.25, 0.0]), Document([4, 5], [0.5, 1.0])], length=6)

    assert rows.tokens.tolist() == [[1, 2, 3, 0, 0, 0, 0], [4, 5, 0, 0, 0, 0, 0]]
    # The first token of a document is not a target. Rows with at most 8 free tokens get no other document.
    assert rows.target_weights.tolist() == [[0.25, 0.0, 0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]]


@settings(deadline=None)
@given(
    contents=st.lists(
        st.lists(st.tuples(st.integers(0, 99), st.sampled_from([0.0, 0.0, 0.5, 1.0])), max_size=6), max_size=20
    )
)
def test_every_row_has_a_trained_target(contents: list[list[tuple[int, float]]]) -> None:
    rows = pack([Document([t for t, _ in text], [w for _, w in text]) for text in contents], length=7)

    assert (rows.target_weights.sum(axis=1) > 0).all()
    assert rows.dropped == sum(not any(weight for _, weight in text[1:]) for text in contents)


def test_documents_longer_than_a_row_are_dropped_and_counted() -> None:
    rows = packed([[1] * 11, [2] * 10, [3] * 30], length=9)

    assert rows.tokens.tolist() == [[2] * 10]
    assert rows.dropped == 2


def test_documents_without_a_trained_token_are_dropped_and_counted() -> None:
    silent = Document([3, 4], [1.0, 0.0])
    rows = pack([Document.whole([7]), Document.whole([]), silent, Document.whole([1, 2])], length=3)

    assert rows.tokens.tolist() == [[1, 2, 0, 0]]
    assert rows.dropped == 3


def test_a_row_may_have_more_than_255_documents() -> None:
    rows = packed([[number % 50, 99] for number in range(300)], length=999)

    assert len(rows) == 1
    assert int(rows.document.max()) == 300
    assert int(rows.target_weights.sum()) == 300


def test_without_documents_there_are_no_rows() -> None:
    rows = packed([], length=7)
    assert (len(rows), rows.tokens.shape, rows.target_weights.shape) == (0, (0, 8), (0, 7))


def test_rows_of_the_microworld_are_less_than_6_percent_padding() -> None:
    # Four characters per token and six template tokens per message, as with the shipped tokenizers.
    def length(document: object) -> int:
        if isinstance(document, str):
            return len(document) // 4 + 2
        assert isinstance(document, list)
        return sum((len(turn.instruction) + len(turn.answer)) // 4 + 12 for turn in document)

    rows = packed([[1] * length(document) for document in documents(make_world(), 0, 4000)], length=128)
    assert rows.padding < 0.06
    assert rows.dropped < 40


def test_rows_survive_saving_and_loading(tmp_path: Path) -> None:
    rows = pack([Document([1, 2, 3], [0.2, 0.2, 1.0]), Document.whole([4] * 20)], length=7)
    rows.save(tmp_path / "rows.npz")

    again = Rows.load(tmp_path / "rows.npz")
    assert np.array_equal(again.tokens, rows.tokens)
    assert np.array_equal(again.document, rows.document)
    assert np.array_equal(again.target_weights, rows.target_weights)
    assert (again.dropped, again.tokens.dtype) == (1, np.uint32)
