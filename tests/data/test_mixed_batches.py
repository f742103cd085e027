"""Rows of several lengths: every document once per epoch, short documents in short rows, little padding."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_suite.data.batch.batches import EMPTY, PackedBatches, mixed_batches, padding, share
from mlx_suite.data.batch.rows import Document, pack


def of_lengths(*lengths: int) -> list[Document]:
    """Documents that repeat their number, starting at 1; the first token is not trained."""
    return [Document([i + 1] * n, [0.0] + [1.0] * (n - 1)) for i, n in enumerate(lengths)]


def log_normal(count: int) -> list[Document]:
    """Lengths typical of instruction data: median 150 tokens, a few ten times as long."""
    lengths = np.random.default_rng(0).lognormal(mean=5.0, sigma=0.8, size=count).clip(8, 2048).astype(int)
    return of_lengths(*map(int, lengths))


def test_short_documents_go_into_short_rows_with_as_many_tokens_per_batch() -> None:
    # 16 documents of 128 tokens fill 8 rows of 256, one batch; two of 600 need a row of 1024 each.
    batches = mixed_batches(of_lengths(*[128] * 16, 600, 600), length=1024, size=2)
    shapes = sorted(batches.take(chosen).tokens.shape for chosen in batches.order(0, 0))
    assert shapes == [(2, 1024), (8, 256)]


def test_documents_that_do_not_fill_a_batch_of_short_rows_go_into_longer_rows() -> None:
    batches = mixed_batches(of_lengths(*[128] * 15, 600, 600), length=1024, size=2)
    # 7.5 rows of 256 are less than a batch of 8; fewer than 4 full rows of 512 are less than a batch of 4.
    assert [part.rows.tokens.shape for part in batches.parts] == [(4, 1025)]
    assert len(mixed_batches(of_lengths(*[128] * 16), length=1024, size=2).parts) == 1


def test_all_rows_have_one_length_if_the_longest_document_is_short() -> None:
    [part] = mixed_batches(of_lengths(9, 300, 30), length=320, size=4).parts
    assert part.rows.tokens.shape == (2, 321)


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(2, 1000), min_size=1, max_size=80), size=st.integers(1, 3), ranks=st.integers(1, 3))
def test_an_epoch_has_every_document_once_for_any_world_size(lengths: list[int], size: int, ranks: int) -> None:
    batches = mixed_batches(of_lengths(*lengths), length=1024, size=size)
    for epoch in range(2):
        order = batches.order(1, epoch)
        assert len(order) == batches.per_epoch
        read: Counter[int] = Counter()
        for chosen in order:
            assert (chosen != EMPTY).any()
            for rank in range(ranks):
                batch = batches.take(share(chosen, rank, ranks))
                read.update(batch.targets[: batch.trained].tolist())
        assert read == {i + 1: n - 1 for i, n in enumerate(lengths)}


def test_the_order_is_a_function_of_seed_and_epoch_and_mixes_the_lengths() -> None:
    batches = mixed_batches(of_lengths(*[100] * 64, *[500] * 16), length=1024, size=1)
    orders = [[chosen.tolist() for chosen in batches.order(s, e)] for s, e in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert orders[0] == orders[3] != orders[1] != orders[2] != orders[0]
    widths = [batches.take(chosen).tokens.shape[1] for chosen in batches.order(0, 0)]
    assert len(set(widths)) > 1 and widths != sorted(widths) != widths[::-1]


def test_padding_is_below_two_percent_and_nearly_half_of_the_attention_scores_are_saved() -> None:
    documents = log_normal(2000)
    mixed, packed = mixed_batches(documents, 2048, 4), PackedBatches(pack(documents, 2048), 4)
    assert padding(mixed) < 0.02
    scores = [
        sum(batches.take(chosen).tokens.size * batches.take(chosen).tokens.shape[1] for chosen in batches.order(0, 0))
        for batches in (mixed, packed)
    ]
    assert scores[0] < 0.55 * scores[1]


def test_documents_without_a_trained_token_are_dropped() -> None:
    silent = Document([7] * 5, [0.0] * 5)
    batches = mixed_batches([*of_lengths(9, 9), silent], length=256, size=1)
    assert sum(batches.take(chosen).trained for chosen in batches.order(0, 0)) == 16


@pytest.mark.parametrize("chosen", [[EMPTY, EMPTY]])
def test_a_share_of_empty_rows_trains_nothing(chosen: list[int]) -> None:
    batch = mixed_batches(of_lengths(5, 5), length=256, size=2).take(np.array(chosen))
    assert (batch.trained, batch.total) == (0, 0.0)
