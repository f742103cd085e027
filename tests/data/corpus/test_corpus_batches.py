"""Rows of tokenized corpora: every token a target once per pass, shares by weight, an order that can be resumed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_suite.data.batch.batches import EMPTY, share
from mlx_suite.data.corpus.batches import CorpusBatches
from mlx_suite.data.corpus.mixture import MixturePart, mixed_order, natural_parts, quotas
from mlx_suite.data.corpus.token_file import TokenFile
from mlx_suite.runtime.errors import UserError
from tests.data.corpus.conftest import MakeFile


@dataclass(frozen=True, kw_only=True)
class Numbered(TokenFile):
    """Tokens 0, 1, 2, … in memory, in documents of given lengths."""

    folder: Path = Path()
    manifest: Any = field(default_factory=dict)
    lengths: Sequence[int]

    @property
    def count(self) -> int:
        return sum(self.lengths)

    @property
    def fingerprint(self) -> str:
        return "0" * 16

    @property
    def ends(self) -> Any:  # type: ignore[override]
        return np.cumsum(self.lengths).astype("<u8")

    def read(self, start: int, stop: int) -> Any:
        return np.arange(start, stop, dtype="<u2")


def part(*lengths: int, name: str = "part", weight: float = 1.0) -> MixturePart:
    return MixturePart(name=name, file=Numbered(lengths=lengths), weight=weight)


def targets(batches: CorpusBatches, seed: int, epoch: int) -> Counter[int]:
    """How often each token is a target in an epoch."""
    read = [batches.take(chosen) for chosen in batches.order(seed, epoch)]
    return Counter(int(token) for batch in read for token in batch.targets[batch.weights > 0])


# ---- rows


def test_rows_are_cut_from_one_stream_and_overlap_by_one_token(make_file: MakeFile) -> None:
    file = make_file(["AB", "CDE"])
    begin, end = 256, 265
    assert file.tokens.tolist() == [begin, 32, 33, end, begin, 34, 35, 36, end]
    batches = CorpusBatches(natural_parts([file]), length=4, size=2)

    batch = batches.take(np.array([0, 1]))

    assert batch.tokens.tolist() == [[begin, 32, 33, end], [begin, 34, 35, 36]]
    assert batch.targets.tolist() == [32, 33, end, begin, 34, 35, 36, end]
    assert batch.document is None
    assert (batch.trained, batch.total) == (8, 8.0)


def test_the_last_row_ends_with_padding_that_is_not_trained(make_file: MakeFile) -> None:
    batches = CorpusBatches(natural_parts([make_file(["ABCD"])]), length=3, size=1)
    batch = batches.take(np.array([1]))
    assert batch.tokens.tolist() == [[34, 35, 265]]
    assert batch.targets[batch.weights > 0].tolist() == [35, 265]


def test_isolated_documents_are_numbered_in_their_row_and_do_not_predict_each_other(make_file: MakeFile) -> None:
    batches = CorpusBatches(natural_parts([make_file(["A", "BC", "D"])]), length=9, size=1, isolate=True)
    batch = batches.take(np.array([0]))
    assert batch.document is not None
    assert batch.document.tolist() == [[1, 1, 1, 2, 2, 2, 2, 3, 3]]
    assert batch.targets[batch.weights > 0].tolist() == [32, 265, 33, 34, 265, 35, 265]


def test_a_row_that_begins_within_a_document_counts_it_as_its_first() -> None:
    batches = CorpusBatches([part(5, 2, 4)], length=4, size=1, isolate=True)
    documents = [batches.take(np.array([row])).document for row in range(3)]
    assert [each.tolist()[0] for each in documents if each is not None] == [[1, 1, 1, 1], [1, 2, 2, 3], [1, 1, 1, 0]]


# ---- an epoch


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 30), min_size=1, max_size=12),
    length=st.integers(1, 17),
    size=st.integers(1, 5),
    isolate=st.booleans(),
    seed=st.integers(0, 9),
)
def test_no_token_is_lost_or_doubled_in_an_epoch(
    lengths: list[int], length: int, size: int, isolate: bool, seed: int
) -> None:
    batches = CorpusBatches([part(*lengths)], length=length, size=size, isolate=isolate)
    firsts = {sum(lengths[:number]) for number in range(len(lengths))} if isolate else {0}
    for epoch in range(2):
        assert targets(batches, seed, epoch) == Counter(set(range(sum(lengths))) - firsts)
        assert len(batches.order(seed, epoch)) == batches.per_epoch


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    weights=st.lists(st.floats(0.01, 10), min_size=4, max_size=4),
    seed=st.integers(0, 9),
)
def test_the_rows_of_each_part_are_read_in_whole_passes_across_epochs(
    sizes: list[int], weights: list[float], seed: int
) -> None:
    counts = quotas(weights[: len(sizes)], sum(sizes))
    assert sum(counts) == sum(sizes)
    firsts = np.cumsum([0, *sizes])
    epochs = [mixed_order(sizes, counts, seed, epoch) for epoch in range(5)]
    for number, (size, count) in enumerate(zip(sizes, counts, strict=True)):
        read = [row for order in epochs for row in order if firsts[number] <= row < firsts[number + 1]]
        assert len(read) == 5 * count
        for start in range(0, len(read), size):
            assert len(set(read[start : start + size])) == len(read[start : start + size])


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    batches = CorpusBatches([part(300), part(100, weight=2.0)], length=4, size=5)
    orders = [np.concatenate(batches.order(*each)).tolist() for each in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert orders[0] == orders[3] != orders[1] != orders[2] != orders[0]


# ---- mixtures


def test_every_batch_has_the_shares_of_the_weights_to_within_a_row() -> None:
    parts = [part(4001, name="web", weight=0.7), part(81, name="notes", weight=0.3)]
    batches = CorpusBatches(parts, length=4, size=10)
    assert (batches.rows, batches.quotas) == ([1000, 20], [714, 306])
    for chosen in batches.order(seed=3, epoch=1)[:-1]:
        assert abs(int((chosen >= 1000).sum()) - 3) <= 1


def test_rows_are_shared_out_by_the_largest_remainders() -> None:
    assert quotas([1, 1, 1], 10) == [4, 3, 3]
    assert quotas([0.5, 0.25, 0.25], 8) == [4, 2, 2]
    assert quotas([1, 0], 3) == [3, 0]


def test_a_part_with_a_tiny_weight_still_gets_a_row() -> None:
    assert quotas([1000, 1e-9], 5) == [4, 1]


def test_the_ledger_says_how_often_a_small_part_was_read() -> None:
    parts = [part(4001, name="web", weight=0.7), part(81, name="notes", weight=0.3)]
    batches = CorpusBatches(parts, length=4, size=10)
    web, notes = batches.ledger(seed=0, steps=2 * batches.per_epoch)
    assert (web.name, web.tokens, web.passes) == ("web", 2 * 714 * 4, 1.428)
    assert (notes.name, notes.tokens, notes.passes) == ("notes", 2 * 306 * 4, 30.6)
    assert notes.share == pytest.approx(0.3)


@settings(max_examples=40, deadline=None)
@given(steps=st.integers(0, 30), accumulate=st.integers(1, 3), isolate=st.booleans())
def test_the_ledger_counts_the_targets_of_the_batches_that_were_taken(
    steps: int, accumulate: int, isolate: bool
) -> None:
    parts = [part(30, 9, 8, name="one", weight=2), part(5, 4, 7, name="other", weight=1)]
    batches = CorpusBatches(parts, length=5, size=2, isolate=isolate)
    per_epoch = -(-batches.per_epoch // accumulate)
    trained = 0
    for step in range(steps):
        epoch, at = divmod(step, per_epoch)
        for chosen in batches.order(7, epoch)[at * accumulate : (at + 1) * accumulate]:
            trained += batches.take(chosen).trained
    ledger = batches.ledger(seed=7, steps=steps, accumulate=accumulate)
    assert sum(entry.tokens for entry in ledger) == trained


def test_weights_that_make_no_mixture_are_refused() -> None:
    with pytest.raises(UserError, match="part: weight -1") as caught:
        CorpusBatches([part(9, weight=-1), part(9, weight=2)], length=4, size=1)
    assert caught.value.details == ("part: weight -1",)
    with pytest.raises(UserError, match="do not make a mixture"):
        CorpusBatches([part(9, weight=0)], length=4, size=1)


# ---- ranks


def test_ranks_take_the_rows_of_one_batch_between_them() -> None:
    batches = CorpusBatches([part(41)], length=4, size=5)
    chosen = batches.order(0, 0)[0]
    whole = batches.take(chosen)
    halves = [batches.take(share(chosen, rank, 2)) for rank in range(2)]
    assert sum((Counter(half.targets[half.weights > 0].tolist()) for half in halves), Counter()) == Counter(
        whole.targets.tolist()
    )
    assert batches.take(np.array([EMPTY, EMPTY])).total == 0
