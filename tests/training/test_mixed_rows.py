"""Training on batches of mixed row lengths: the step, its shares over processes, and resume."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mlx_suite.data.batch.batches import EMPTY, Batch, BucketedBatches, MixedBatches, mixed_batches, share
from mlx_suite.data.batch.rows import Document
from mlx_suite.training.loop import train
from tests.modeling.tiny import tiny_model
from tests.training.test_train_step import first_step, same_step
from tests.training.toy import bits, toy_settings

pytestmark = pytest.mark.usefixtures("uncompiled")


def documents() -> list[Document]:
    """Eight short documents in rows of 256, and one that needs a row of 512; the loss is on their second halves."""
    random = np.random.default_rng(2)
    lengths = [128, 128, 126, 128, 127, 125, 128, 127, 500]
    return [Document(random.integers(0, 50, n).tolist(), [0.0] * (n // 2) + [1.0] * (n - n // 2)) for n in lengths]


def mixed() -> MixedBatches:
    batches = mixed_batches(documents(), length=512, size=1)
    assert [part.rows.tokens.shape for part in batches.parts] == [(4, 257), (1, 513)]
    return batches


def whole_epoch(batches: MixedBatches | BucketedBatches) -> list[Batch]:
    return [batches.take(chosen) for chosen in batches.order(0, 0)]


def test_a_step_of_mixed_row_lengths_equals_that_of_single_documents() -> None:
    single = whole_epoch(BucketedBatches(documents(), size=1, step=4))
    same_step(first_step(tiny_model("gemma2"), whole_epoch(mixed())), first_step(tiny_model("gemma2"), single))


@pytest.mark.parametrize("processes", [2, 3])
def test_the_shares_of_several_processes_sum_to_the_step_of_one(processes: int) -> None:
    batches = mixed()
    order = batches.order(0, 0)
    shares = [[batches.take(share(chosen, rank, processes)) for chosen in order] for rank in range(processes)]
    # The long row is alone in its batch: all ranks but one get empty rows, of another length.
    assert any(batch.trained == 0 for some in shares for batch in some)
    together = first_step(tiny_model("llama"), [batch for some in shares for batch in some])
    same_step(together, first_step(tiny_model("llama"), whole_epoch(batches)))


@pytest.mark.parametrize("kind", ["mixed", "bucketed"])
@pytest.mark.parametrize("stop", [1, 2])
def test_a_run_resumed_mid_epoch_ends_with_the_same_bits(kind: str, stop: int, tmp_path: Path) -> None:
    batches = mixed() if kind == "mixed" else BucketedBatches(documents(), size=4)

    def run(name: str, stops: Sequence[int]) -> dict[str, bytes]:
        for steps in stops:
            settings = toy_settings(steps, horizon=4, accumulate=2)
            train(tiny_model("llama", num_hidden_layers=1), batches, settings, tmp_path / name)
        return bits(tmp_path / name)

    (tmp_path / "whole").mkdir()
    (tmp_path / "stopped").mkdir()
    assert run("stopped", [stop, 4]) == run("whole", [4])


def test_the_last_batch_is_padded_with_empty_rows() -> None:
    batches = mixed_batches(documents(), length=512, size=2)
    ends = [int((chosen == EMPTY).sum()) for chosen in batches.order(0, 0)]
    assert sorted(ends) == [0, 1]
