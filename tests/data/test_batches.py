"""Batches: every row once per epoch, in an order that can be resumed anywhere; only trained positions are indexed."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_suite.data.batch.batches import EMPTY, BucketedBatches, PackedBatches, padding, share
from mlx_suite.data.batch.rows import Document, pack


def of_lengths(*lengths: int) -> list[Document]:
    """Documents whose first token is not trained."""
    return [Document([i + 1] * n, [0.0] + [1.0] * (n - 1)) for i, n in enumerate(lengths)]


# ---- content of a batch


def test_a_packed_batch_indexes_the_positions_whose_next_token_is_trained() -> None:
    documents = [Document([11, 12, 13, 14], [0, 0, 1, 1]), Document([21, 22, 23], [0, 0.5, 1])]
    batch = PackedBatches(pack(documents, length=13), size=1).take(np.array([0]))

    assert batch.tokens.tolist() == [[11, 12, 13, 14, 21, 22, 23, 0, 0, 0, 0, 0, 0]]
    assert batch.document is not None and batch.document.tolist() == [[1, 1, 1, 1, 2, 2, 2, 0, 0, 0, 0, 0, 0]]
    assert batch.index[: batch.trained].tolist() == [1, 2, 4, 5]
    assert batch.targets[: batch.trained].tolist() == [13, 14, 22, 23]
    assert batch.weights[:5].tolist() == [1, 1, 0.5, 1, 0]
    assert (batch.trained, batch.total) == (4, 3.5)


def test_a_bucketed_batch_pads_after_the_tokens_and_trains_no_padding() -> None:
    documents = of_lengths(3, 2)
    batch = BucketedBatches(documents, size=2, step=4).take(np.array([0, 1]))

    assert batch.tokens.tolist() == [[1, 1, 1, 0], [2, 2, 0, 0]]
    assert batch.document is None
    assert batch.index[: batch.trained].tolist() == [0, 1, 4]
    assert batch.targets[: batch.trained].tolist() == [1, 1, 2]


def test_padding_is_recognised_by_length_and_not_by_id() -> None:
    # Token 0 is an ordinary token here.
    batch = BucketedBatches([Document([5, 0, 0, 0], [0, 1, 1, 1])], size=1).take(np.array([0]))
    assert batch.targets[: batch.trained].tolist() == [0, 0, 0]
    assert batch.trained == 3


def test_all_packed_batches_have_one_shape_including_the_last() -> None:
    documents = [Document([1] * n, [0.0] * (n - k) + [1.0] * k) for n, k in ((9, 1), (9, 8), (9, 2), (9, 5), (9, 3))]
    packed = PackedBatches(pack(documents, length=8), size=2)
    batches = [packed.take(rows) for rows in packed.order(seed=0, epoch=0)]

    assert len(batches) == packed.per_epoch == 3
    assert len({(batch.tokens.shape, batch.index.shape) for batch in batches}) == 1
    assert sum(batch.trained for batch in batches) == 1 + 8 + 2 + 5 + 3


# ---- the order


@pytest.mark.parametrize("kind", ["packed", "bucketed"])
@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(2, 40), min_size=1, max_size=30), size=st.integers(1, 5), seed=st.integers(0, 9))
def test_an_epoch_has_every_row_once(kind: str, lengths: list[int], size: int, seed: int) -> None:
    documents = of_lengths(*lengths)
    packed = kind == "packed"
    batches = PackedBatches(pack(documents, 40), size) if packed else BucketedBatches(documents, size)
    rows = len(batches.rows) if isinstance(batches, PackedBatches) else len(documents)
    for epoch in range(2):
        order = batches.order(seed, epoch)
        assert len(order) == batches.per_epoch and all(len(chosen) == size for chosen in order)
        read = Counter(int(row) for chosen in order for row in chosen)
        assert {row: n for row, n in read.items() if row != EMPTY} == dict.fromkeys(range(rows), 1)
        assert sum(batches.take(chosen).trained for chosen in order) == sum(n - 1 for n in lengths)


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    batches = PackedBatches(pack(of_lengths(*[9] * 12), 8), size=12)
    orders = [batches.order(seed, epoch)[0].tolist() for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert orders[0] == orders[3] != orders[1] != orders[2] != orders[0]


def test_buckets_have_documents_of_one_length_in_new_groups_each_epoch() -> None:
    documents = of_lengths(*[4, 30] * 8)
    batches = BucketedBatches(documents, size=4)
    groups = []
    for epoch in range(2):
        for chosen in batches.order(seed=1, epoch=epoch):
            assert len({len(documents[i]) for i in chosen}) == 1
        groups.append({frozenset(chosen.tolist()) for chosen in batches.order(seed=1, epoch=epoch)})
    assert groups[0] != groups[1]


# ---- data-parallel ranks


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_share_a_batch_without_overlap(ranks: int) -> None:
    chosen = np.array([7, 3, 9, 1, 5])
    shares = [share(chosen, rank, ranks) for rank in range(ranks)]
    assert len({len(part) for part in shares}) == 1
    assert sorted(int(row) for part in shares for row in part if row != EMPTY) == [1, 3, 5, 7, 9]


def test_a_share_of_empty_rows_trains_nothing() -> None:
    packed = PackedBatches(pack(of_lengths(5, 5), 4), size=2)
    batch = packed.take(np.array([EMPTY, EMPTY]))
    assert (batch.trained, batch.total) == (0, 0.0)
    assert batch.document is not None and not batch.document.any()


# ---- padding


def log_normal(count: int = 2000) -> list[Document]:
    """Lengths typical of instruction data: median 150 tokens, a few ten times as long."""
    lengths = np.random.default_rng(0).lognormal(mean=5.0, sigma=0.8, size=count).clip(8, 2048).astype(int)
    return of_lengths(*map(int, lengths))


def test_packing_has_less_than_two_percent_padding() -> None:
    assert padding(PackedBatches(pack(log_normal(), 2048), size=4)) < 0.02


def test_buckets_have_less_than_five_percent_padding() -> None:
    assert padding(BucketedBatches(log_normal(), size=4)) < 0.05


def test_padding_equals_a_count_by_hand() -> None:
    rows = pack(of_lengths(5, 3), 4)
    assert padding(PackedBatches(rows, size=1)) == pytest.approx(1 / 8)  # rows with 4 and 3 of 4 in use
    assert padding(BucketedBatches(of_lengths(5, 3), size=2, step=4)) == pytest.approx(2 / 8)
    assert replace(rows).padding == pytest.approx(2 / 10)
