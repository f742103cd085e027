"""Documents that are too long: refused, left out, cut or split, and always counted."""

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
    """BOS, then for each (question, answer) so many tokens; an answer's last one is STOP. Tokens count up from 10."""
    tokens, weights = [BOS], [0.0]
    for question, answer in sizes:
        tokens += range(len(tokens) + 9, len(tokens) + 9 + question + answer - 1)
        tokens.append(STOP)
        weights += [0.0] * question + [1.0] * answer
    return Document(tokens, weights, "rows.jsonl:7")


def shown(document: Document) -> list[tuple[int, bool]]:
    return [(token, weight > 0) for token, weight in zip(document.tokens, document.weights, strict=True)]


def test_the_policies_are_those_that_can_be_chosen() -> None:
    assert set(POLICIES) == set(CHOICES["too_long"])


@pytest.mark.parametrize("policy", POLICIES)
def test_what_fits_stays_as_it_is(policy: str) -> None:
    documents = [turns((3, 4)), turns((2, 2))]
    fitted = fit(documents, 8, policy)
    assert list(fitted.documents) == documents
    assert (fitted.counts, fitted.too_long) == (LengthCounts(), ())


def test_error_names_each_with_its_length_and_says_what_would_help() -> None:
    documents = [turns((3, 4)), turns((3, 9)), turns((90, 2000))]
    with pytest.raises(UserError) as caught:
        fit(documents, 8, "error")
    assert caught.value.what == "2 examples are longer than 8 tokens"
    assert caught.value.details == ("rows.jsonl:7: 13 tokens", "rows.jsonl:7: 2,091 tokens")
    assert caught.value.fix == ("set --max-length 2091, or choose --too-long drop, truncate or split")


def test_error_names_twenty_and_counts_the_others() -> None:
    with pytest.raises(UserError) as caught:
        fit([turns((3, 9))] * 25, 8, "error")
    assert len(caught.value.details) == 21
    assert caught.value.details[-1] == "and 5 more"


def test_drop_leaves_out_and_counts() -> None:
    fitted = fit([turns((3, 4)), turns((3, 9))], 8, "drop")
    assert list(fitted.documents) == [turns((3, 4))]
    assert fitted.counts == LengthCounts(dropped=1)
    assert fitted.too_long == (Problem("rows.jsonl:7", "13 tokens"),)


class TestTruncate:
    def test_a_cut_answer_still_ends_with_its_stop_token(self) -> None:
        fitted = fit([turns((3, 9))], 8, "truncate")
        [cut] = fitted.documents
        assert shown(cut) == [
            *[(BOS, False), (10, False), (11, False), (12, False)],
            *[(13, True), (14, True), (15, True), (STOP, True)],
        ]
        assert (fitted.counts, cut.place) == (LengthCounts(truncated=1), "rows.jsonl:7")

    def test_a_cut_in_a_question_leaves_the_answers_before_it(self) -> None:
        [cut] = fit([turns((2, 3), (9, 3))], 8, "truncate").documents
        assert shown(cut) == shown(turns((2, 3)))

    def test_a_cut_right_after_an_answer_leaves_it_whole(self) -> None:
        [cut] = fit([turns((3, 4), (2, 2))], 8, "truncate").documents
        assert shown(cut) == shown(turns((3, 4)))

    def test_an_answer_of_which_only_the_stop_token_would_be_left_is_not_kept(self) -> None:
        # It would teach to say nothing.
        [cut] = fit([turns((1, 2), (4, 5))], 9, "truncate").documents
        assert shown(cut) == shown(turns((1, 2)))
        assert fit([turns((6, 5))], 8, "truncate").counts == LengthCounts(dropped=1)


class TestSplit:
    def test_a_later_piece_begins_with_bos_and_some_context(self) -> None:
        fitted = fit([turns((3, 12))], 8, "split", bos_id=BOS)
        assert [shown(piece) for piece in fitted.documents] == [
            [*((token, False) for token in (BOS, 10, 11, 12)), *((token, True) for token in (13, 14, 15, 16))],
            [*((token, False) for token in (BOS, 15, 16)), *((token, True) for token in (17, 18, 19, 20, 21))],
            [*((token, False) for token in (BOS, 20, 21)), *((token, True) for token in (22, 23, STOP))],
        ]
        assert fitted.counts == LengthCounts(split=1, pieces=3)
        assert [piece.place for piece in fitted.documents] == [f"rows.jsonl:7 part {number}" for number in (1, 2, 3)]

    def test_a_question_that_fills_a_piece_is_read_only_at_its_end(self) -> None:
        [piece] = fit([turns((20, 3))], 8, "split", bos_id=BOS).documents
        assert shown(piece) == [(BOS, False), (28, False), (29, False), (30, True), (31, True), (STOP, True)]

    def test_without_bos_a_piece_begins_with_its_context(self) -> None:
        [_, later] = fit([turns((3, 8))], 8, "split").documents
        assert shown(later) == [(15, False), (16, False), (17, True), (18, True), (19, True), (STOP, True)]


SIZES = st.lists(st.tuples(st.integers(1, 30), st.integers(2, 30)), min_size=1, max_size=4)


@settings(max_examples=200, deadline=None)
@given(sizes=SIZES, length=st.integers(8, 40), bos=st.sampled_from([None, BOS]))
def test_split_trains_every_token_once_and_each_piece_fits(
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
def test_what_is_cut_fits_and_ends_with_a_trained_stop_token(sizes: list[tuple[int, int]], length: int) -> None:
    whole = turns(*sizes)
    fitted = fit([whole], length, "truncate")
    assert len(fitted.documents) + fitted.counts.dropped == 1
    for cut in fitted.documents:
        assert len(cut) <= length
        if len(whole) > length:
            assert shown(cut)[-1] == (STOP, True) and shown(cut)[-2][1]
        assert list(cut.tokens[:-1]) == list(whole.tokens[: len(cut) - 1])
