"""All sides of `bench pretrain` train the same weights on the same tokens. Speed is not tested."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_suite.checkpoints.load import build_model
from mlx_suite.hub.resolve import resolve
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.text import load_tokenizer
from mlx_suite_apps.bench.pretraining import (
    HELD_OUT,
    RATE,
    TOKENIZER,
    PretrainingComparison,
    PretrainingFigures,
    PretrainingJob,
    PretrainingWorkload,
    Round,
    as_batch,
    figures,
    learning_rates,
    make_rows,
    ours,
)

pytestmark = pytest.mark.usefixtures("uncompiled")

WORKLOAD = PretrainingWorkload(size=1, vocabulary=2048, length=16, batch=2, steps=3, rounds=1)


class NoWait:
    """TurnOrder whose turns start immediately."""

    def __init__(self) -> None:
        self.rounds: list[Round] = []

    def wait(self) -> None:
        pass

    def report(self, result: Any) -> None:
        self.rounds.append(result)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    mx.random.seed(0)
    path = str(tmp_path_factory.mktemp("weights") / "weights.npz")
    mx.savez(path, **dict(tree_flatten(build_model(ModelConfig.from_dict(WORKLOAD.shape)).parameters())))
    return path


def job(weights: str, optimizer: str = "adamw") -> PretrainingJob:
    rows, held_out = make_rows(WORKLOAD)
    rates = learning_rates(RATE, WORKLOAD.all_steps)
    return PretrainingJob(
        workload=WORKLOAD, optimizer=optimizer, weights=weights, rows=rows, held_out=held_out, rates=rates
    )


def rounds_of(work: Any, job: PretrainingJob) -> list[Round]:
    turns = NoWait()
    work(job, turns)
    return turns.rounds


def test_rows_are_consecutive_pieces_of_passages() -> None:
    rows, held_out = make_rows(WORKLOAD)
    assert (rows.shape, held_out.shape) == ((6, 2, 17), (HELD_OUT, 2, 17))
    whole = np.concatenate([rows, held_out]).reshape(-1, 17)
    assert (whole[1:, 0] == whole[:-1, -1]).all()
    assert np.array_equal(make_rows(WORKLOAD)[0], rows)
    tokenizer = load_tokenizer(resolve(TOKENIZER))
    assert tokenizer.bos_id in whole and tokenizer.eos_id in whole


def test_every_token_of_a_batch_is_trained() -> None:
    batch = as_batch(np.array([[1, 2, 3], [4, 5, 6]]))
    assert (batch.tokens.tolist(), batch.targets.tolist()) == ([[1, 2], [4, 5]], [2, 3, 5, 6])
    assert batch.trained == 4


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_our_side_reports_a_round_per_turn_and_learns(weights: str, optimizer: str) -> None:
    first, second = rounds_of(ours, job(weights, optimizer))
    assert second.loss < first.loss and second.held_out < first.held_out


@pytest.mark.torch
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_torch_trains_the_same_model_to_the_same_loss(weights: str, optimizer: str) -> None:
    pytest.importorskip("torch")
    from mlx_suite_apps.bench.torch_pretrainer import torch_loop

    theirs, mine = (rounds_of(work, job(weights, optimizer)) for work in (torch_loop, ours))
    # torch orthogonalizes in bfloat16.
    close = 1e-3 if optimizer == "adamw" else 0.02
    assert [each.held_out for each in mine] == pytest.approx([each.held_out for each in theirs], abs=close)


def test_the_first_round_is_not_counted_and_a_ratio_is_ours_over_theirs(weights: str) -> None:
    def side(name: str, seconds: list[float]) -> PretrainingFigures:
        rounds = [Round(seconds=each, loss=1.0, held_out=2.0 + each, resident_bytes=5) for each in seconds]
        return figures(name, job(weights), rounds)

    mine, theirs = side("mlx-suite adamw", [9.0, 1.0, 2.0, 4.0]), side("torch adamw", [9.0, 4.0, 4.0, 4.0])
    assert WORKLOAD.round_tokens == 96
    assert (mine.tokens_per_second, mine.slowest, mine.fastest, mine.loss) == (48.0, 24.0, 96.0, 6.0)
    two = side("mlx-suite adamw, 2 processes", [9.0, 1.0, 1.0, 1.0])
    comparison = PretrainingComparison(workload=WORKLOAD, parameters=1, tokens=2, sides=(mine, two, theirs))
    assert comparison.ratios() == {"mlx-suite adamw": 2.0, "mlx-suite adamw, 2 processes": 4.0}
    assert PretrainingComparison(workload=WORKLOAD, parameters=1, tokens=2, sides=(mine,)).ratios() == {}


def test_the_learning_rate_warms_up_and_ends_near_zero(tmp_path: Path) -> None:
    rates = learning_rates(1.0, 40)
    assert rates[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert 0 < rates[-1] < 0.2
