"""Documents that are too long: an error, dropped, truncated or split, and always counted."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_suite.data.batch.rows import Document
from mlx_suite.data.encode.lengths import POLICIES, LengthCounts, fit
from mlx_suite.data.read.records import Problem
from mlx_suite.finetune.settings import CHOICES
from mlx_suite.runtime.errors import UserError

BOS, STOP = 1, 2


def turns(*sizes: tuple[int, int]) -> Document:
    """BOS, then an (instruction, response) of these lengths per turn; responses end with STOP. Ids count up from 10."""
    tokens, weights = [BOS], [0.0]
    for question, answer in sizes:
        tokens += range(len(tokens) + 9, len(tokens) + 9 + question + answer - 1)
        tokens.append(STOP)
        weights += [0.0] * question + [1.0] * answer
    return Document(tokens, weights, "rows.jsonl:7")


def shown(document: Document) -> list[tuple[int, bool]]:
    return [(token, weight > 0) for token, weight in zip(document.tokens, document.weights, strict=True)]


def test_the_policies_are_the_choices_of_the_settings() -> None:
    assert set(POLICIES) == set(CHOICES["too_long"])


@pytest.mark.parametrize("policy", POLICIES)
def test_documents_that_fit_are_unchanged(policy: str) -> None:
    documents = [turns((3, 4)), turns((2, 2))]
    fitted = fit(documents, 8, policy)
    assert list(fitted.documents) == documents
    assert (fitted.counts, fitted.too_long) == (LengthCounts(), ())


def test_error_lists_each_document_with_its_length_and_suggests_a_fix() -> None:
    documents = [turns((3, 4)), turns((3, 9)), turns((90, 2000))]
    with pytest.raises(UserError) as caught:
        fit(documents, 8, "error")
    assert caught.value.what == "2 examples are longer than 8 tokens"
    assert caught.value.details == ("rows.jsonl:7: 13 tokens", "rows.jsonl:7: 2,091 tokens")
    assert caught.value.fix == ("set --max-length 2091, or choose --too-long drop, truncate or split")


def test_error_lists_twenty_and_counts_the_rest() -> None:
    with pytest.raises(UserError) as caught:
        fit([turns((3, 9))] * 25, 8, "error")
    assert len(caught.value.details) == 21
    assert caught.value.details[-1] == "and 5 more"


def test_drop_drops_and_counts() -> None:
    fitted = fit([turns((3, 4)), turns((3, 9))], 8, "drop")
    assert list(fitted.documents) == [turns((3, 4))]
    assert fitted.counts == LengthCounts(dropped=1)
    assert fitted.too_long == (Problem("rows.jsonl:7", "13 tokens"),)


class TestTruncate:
    def test_a_truncated_response_still_ends_with_its_stop_token(self) -> None:
        fitted = fit([turns((3, 9))], 8, "truncate")
        [cut] = fitted.documents
        assert shown(cut) == [
            *[(BOS, False), (10, False), (11, False), (12, False)],
            *[(13, True), (14, True), (15, True), (STOP, True)],
        ]
        assert (fitted.counts, cut.place) == (LengthCounts(truncated=1), "rows.jsonl:7")

    def test_a_cut_in_an_instruction_leaves_the_responses_before_it(self) -> None:
        [cut] = fit([turns((2, 3), (9, 3))], 8, "truncate").documents
        assert shown(cut) == shown(turns((2, 3)))

    def test_a_cut_right_after_a_response_leaves_it_complete(self) -> None:
        [cut] = fit([turns((3, 4), (2, 2))], 8, "truncate").documents
        assert shown(cut) == shown(turns((3, 4)))

    def test_a_response_is_dropped_if_only_its_stop_token_would_remain(self) -> None:
        # It would teach the model to say nothing.
        [cut] = fit([turns((1, 2), (4, 5))], 9, "truncate").documents
        assert shown(cut) == shown(turns((1, 2)))
        assert fit([turns((6, 5))], 8, "truncate").counts == LengthCounts(dropped=1)


class TestSplit:
    def test_later_pieces_begin_with_bos_and_some_context(self) -> None:
        fitted = fit([turns((3, 12))], 8, "split", bos_id=BOS)
        assert [shown(piece) for piece in fitted.documents] == [
            [*((token, False) for token in (BOS, 10, 11, 12)), *((token, True) for token in (13, 14, 15, 16))],
            [*((token, False) for token in (BOS, 15, 16)), *((token, True) for token in (17, 18, 19, 20, 21))],
            [*((token, False) for token in (BOS, 20, 21)), *((token, True) for token in (22, 23, STOP))],
        ]
        assert fitted.counts == LengthCounts(split=1, pieces=3)
        assert [piece.place for piece in fitted.documents] == [f"rows.jsonl:7 part {number}" for number in (1, 2, 3)]

    def test_only_the_end_of_a_long_instruction_is_context(self) -> None:
        [piece] = fit([turns((20, 3))], 8, "split", bos_id=BOS).documents
        assert shown(piece) == [(BOS, False), (28, False), (29, False), (30, True), (31, True), (STOP, True)]

    def test_without_bos_a_piece_begins_with_its_context(self) -> None:
        [_, later] = fit([turns((3, 8))], 8, "split").documents
        assert shown(later) == [(15, False), (16, False), (17, True), (18, True), (19, True), (STOP, True)]


SIZES = st.lists(st.tuples(st.integers(1, 30), st.integers(2, 30)), min_size=1, max_size=4)


@settings(max_examples=200, deadline=None)
@given(sizes=SIZES, length=st.integers(8, 40), bos=st.sampled_from([None, BOS]))
def test_split_trains_every_token_once_and_every_piece_fits(
    sizes: list[tuple[int, int]], length: int, bos: int | None
) -> None:
    whole = turns(*sizes)
    pieces = fit([whole], length, "split", bos_id=bos).documents
    learned = [token for piece in pieces for token, is_trained in shown(piece) if is_trained]
    assert learned == [token for token, is_trained in shown(whole) if is_trained]
    for piece in pieces:
        assert len(piece) <= length
        assert not piece.weights[0] and any(piece.weights)
        assert len(piece.tokens) == len(piece.weights)


@settings(max_examples=200, deadline=None)
@given(sizes=SIZES, length=st.integers(8, 40))
def test_a_truncated_document_fits_and_ends_with_a_stop_token(sizes: list[tuple[int, int]], length: int) -> None:
    whole = turns(*sizes)
    fitted = fit([whole], length, "truncate")
    assert len(fitted.documents) + fitted.counts.dropped == 1
    for cut in fitted.documents:
        assert len(cut) <= length
        if len(whole) > length:
            assert shown(cut)[-1] == (STOP, True) and shown(cut)[-2][1]
        assert list(cut.tokens[:-1]) == list(whole.tokens[: len(cut) - 1])
