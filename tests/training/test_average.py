"""The moving average of trained parameters: computed as by hand, and the same after a resume."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_suite.runtime.errors import UserError
from mlx_suite.training.loop import make_optimizer
from mlx_suite.training.train_step import TrainStep
from tests.training.toy import toy_batches, toy_model, toy_settings, train_in


def flat(tree: Any) -> dict[str, np.ndarray[Any, Any]]:
    return {name: np.array(array) for name, array in tree_flatten(tree)}


def test_the_average_moves_towards_the_parameters_after_each_step() -> None:
    train_step = TrainStep(toy_model(), make_optimizer(toy_settings()), clip=1.0)
    train_step.keep_average(0.25)
    expected = flat(train_step.master["parameters"])
    batches = toy_batches()
    for number, rows in enumerate(batches.order(0, 0)[:3]):
        batch = batches.take(rows)
        train_step.run([batch], batch.total, seed=number)
        now = flat(train_step.master["parameters"])
        expected = {name: 0.75 * mean + 0.25 * now[name] for name, mean in expected.items()}
    found = flat(train_step.master["average"])
    assert found.keys() == expected.keys()
    assert all(np.abs(found[name] - expected[name]).max() < 1e-6 for name in found)


def test_an_average_does_not_change_the_training(tmp_path: Path) -> None:
    plain, averaged = toy_model(), toy_model()
    train_in(tmp_path / "plain", plain, steps=4)
    result = train_in(tmp_path / "averaged", averaged, steps=4, average=0.1)
    one, other = flat(plain.parameters()), flat(averaged.parameters())
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert not np.array_equal(flat(result.average)["model.norm.weight"], other["model.norm.weight"])


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_a_resumed_run_has_the_same_average_bit_for_bit(dtype: mx.Dtype, tmp_path: Path) -> None:
    models = [toy_model(), toy_model(), toy_model()]
    for model in models:
        model.set_dtype(dtype)
    whole = train_in(tmp_path / "whole", models[0], steps=6, horizon=6, average=0.1)
    train_in(tmp_path / "parts", models[1], steps=3, horizon=6, average=0.1)
    resumed = train_in(tmp_path / "parts", models[2], steps=6, horizon=6, average=0.1)
    one, other = flat(whole.average), flat(resumed.average)
    assert one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)
    assert {str(array.dtype) for array in one.values()} == {"float32"}


def test_a_damaged_average_is_refused(tmp_path: Path) -> None:
    train_in(tmp_path, toy_model(), steps=2, average=0.1)
    file = tmp_path / "checkpoint" / "average.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(UserError, match="average.safetensors is damaged"):
        train_in(tmp_path, toy_model(), steps=4, average=0.1)
