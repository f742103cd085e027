"""Training: the loss falls, parts of a batch add up to it, and an interrupted run ends like an undisturbed one."""

import json
import math
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_suite.data.rows import Document, Rows, pack
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.modeling.llama import Llama
from mlx_suite.runtime.errors import UserError
from mlx_suite.training import loop
from mlx_suite.training.loop import make_optimizer, make_step, parameter_count, train
from tests.modeling.tiny import tiny_model
from tests.training.toy import STEPS, bits, toy_rows, toy_settings, train_toy, weights

REPOSITORY = Path(__file__).parents[2]

CHILD = """
import os, signal, sys
from pathlib import Path
import mlx_suite
import mlx.core as mx
mx.set_default_device(mx.cpu)
from tests.training.toy import train_toy

save, files = mx.save_safetensors, []

def save_and_die(path, arrays):
    save(path, arrays)
    files.append(path)
    if len(files) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

mx.save_safetensors = save_and_die
train_toy(Path(sys.argv[1]))
"""


def log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed")
    usual = mx.default_device()
    mx.set_default_device(mx.cpu)
    train_toy(run)
    mx.set_default_device(usual)
    return run


@pytest.fixture
def uncompiled() -> Iterator[None]:
    """Without `mx.compile`, which takes a second for each new kernel."""
    mx.disable_compile()
    yield
    mx.enable_compile()


def same_as(run: Path, undisturbed: Path) -> bool:
    """Whether two runs have ended alike: weights and moments bit by bit, the logged steps and losses."""
    logs = [[(line["step"], line["loss"], line["learning_rate"]) for line in log(each)] for each in (run, undisturbed)]
    return bits(run) == bits(undisturbed) and logs[0] == logs[1]


# ---- learning


def test_the_loss_falls_on_a_task_that_can_be_learned(tmp_path: Path) -> None:
    train_toy(tmp_path, steps=60, log_every=10, save_every=100)
    losses = [line["loss"] for line in log(tmp_path)]
    assert len(losses) == 6
    assert losses[-1] < 0.4 * losses[0]


@pytest.mark.slow
def test_the_loss_falls_for_gemma_too(tmp_path: Path) -> None:
    train_toy(tmp_path, steps=60, family="gemma2", log_every=10, save_every=100)
    losses = [line["loss"] for line in log(tmp_path)]
    assert losses[-1] < 0.4 * losses[0]


def test_the_log_tells_step_loss_rate_and_speed(tmp_path: Path) -> None:
    train_toy(tmp_path, steps=5, log_every=2, save_every=100, floor=0.1)
    lines = log(tmp_path)
    assert [line["step"] for line in lines] == [2, 4, 5]
    assert all(set(line) == {"step", "loss", "learning_rate", "tokens_per_second"} for line in lines)
    assert lines[0]["learning_rate"] == pytest.approx(0.002)  # two of three steps of warm-up to 0.003
    assert all(line["tokens_per_second"] > 0 for line in lines)


def test_a_line_holds_the_mean_loss_since_the_last_one(tmp_path: Path) -> None:
    train_toy(tmp_path / "each", steps=6)
    train_toy(tmp_path / "thirds", steps=6, log_every=3)
    each = [line["loss"] for line in log(tmp_path / "each")]
    means = [sum(each[:3]) / 3, sum(each[3:]) / 3]
    assert [line["loss"] for line in log(tmp_path / "thirds")] == pytest.approx(means, abs=2e-5)


def two_steps(streams: int, batch: int) -> tuple[list[float], dict[str, np.ndarray]]:
    """The losses of two steps on a batch whose second half trains fewer tokens, and the moments after the first."""
    rows = toy_rows()
    order = np.argsort(-rows.target_weights.sum(axis=1), kind="stable")
    chosen = np.concatenate([order[: batch // 2], order[-(batch - batch // 2) :]])
    counted = rows.target_weights[chosen]
    assert counted[: batch // 2].sum() > counted[batch // 2 :].sum() * (batch // 2) / (batch - batch // 2)
    model = tiny_model("llama", num_hidden_layers=2, tie_word_embeddings=True)
    settings = toy_settings(streams=streams, batch=batch)
    optimizer = make_optimizer(settings)
    optimizer.init(model.trainable_parameters())
    step = make_step(model, optimizer, settings)
    inputs = [mx.array(rows.tokens[chosen]), mx.array(rows.document[chosen]), mx.array(counted)]
    losses = [step(*inputs).item()]
    moments = {name: np.array(value) for name, value in tree_flatten(optimizer.state)}
    return [*losses, step(*inputs).item()], moments


def same_in_two_streams(batch: int) -> None:
    (losses, moments), (in_two, moments_in_two) = (two_steps(streams, batch) for streams in (1, 2))
    assert in_two == pytest.approx(losses, abs=1e-5)
    # Of the weights themselves AdamW makes ±1 times the rate, however small a gradient is: they hide nothing but noise.
    for name, value in moments.items():
        assert np.abs(value - moments_in_two[name]).max() < 1e-6, name


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("batch", [4, 5])
def test_a_batch_in_two_streams_makes_the_step_of_one(batch: int) -> None:
    same_in_two_streams(batch)


@pytest.mark.slow
def test_a_compiled_batch_in_two_streams_makes_the_step_of_one() -> None:
    same_in_two_streams(4)


@pytest.mark.usefixtures("uncompiled")
def test_more_streams_than_rows_are_no_mean_over_nothing(tmp_path: Path) -> None:
    train_toy(tmp_path, steps=2, batch=1, streams=2)
    assert all(math.isfinite(line["loss"]) for line in log(tmp_path))


def test_the_gradient_is_clipped_as_a_whole(tmp_path: Path) -> None:
    # AdamW's first step does not depend on the gradient's length, its moments do.
    train_toy(tmp_path, steps=1, clip=1e-3)
    moments = mx.load(str(tmp_path / "checkpoint" / "optimizer.safetensors"))
    assert isinstance(moments, dict)
    total = sum(float((value * value).sum().item()) for name, value in moments.items() if name.endswith(".m"))
    assert math.sqrt(total) == pytest.approx(0.1 * 1e-3, rel=1e-3)  # (1 − β₁) times the clipped gradient


def test_a_tied_head_is_counted_once() -> None:
    shape = {"vocab_size": 7, "hidden_size": 4, "intermediate_size": 6, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "head_dim": 2, "rms_norm_eps": 1e-5, "model_type": "llama"}
    body = 7 * 4 + 4 * 4 * 4 + 3 * 4 * 6 + 3 * 4
    for tied, expected in ((True, body), (False, body + 28)):
        model = Llama(ModelConfig.from_dict({**shape, **heads, "tie_word_embeddings": tied}))
        assert parameter_count(model) == expected


# ---- interruptions


def test_two_undisturbed_runs_are_equal_bit_by_bit(undisturbed: Path, tmp_path: Path) -> None:
    train_toy(tmp_path)
    assert same_as(tmp_path, undisturbed)


@pytest.mark.parametrize("stop", [4, 5, 11])
def test_a_stopped_run_goes_on_to_the_same_weights(stop: int, undisturbed: Path, tmp_path: Path) -> None:
    train_toy(tmp_path, steps=stop, horizon=STEPS)
    train_toy(tmp_path)
    assert same_as(tmp_path, undisturbed)


@pytest.mark.parametrize("file", [3, 4], ids=["between two files of a checkpoint", "before its rename"])
def test_a_killed_run_goes_on_to_the_same_weights(file: int, undisturbed: Path, tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", CHILD, str(tmp_path), str(file)]
    killed = subprocess.run(arguments, cwd=REPOSITORY, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert json.loads((tmp_path / "checkpoint" / "state.json").read_text()) == {"step": 4}
    assert [line["step"] for line in log(tmp_path)] == [1, 2, 3, 4, 5, 6, 7, 8]

    train_toy(tmp_path)
    assert [line["step"] for line in log(tmp_path)] == list(range(1, STEPS + 1))
    assert same_as(tmp_path, undisturbed)


def test_a_line_torn_by_a_kill_is_written_again(undisturbed: Path, tmp_path: Path) -> None:
    train_toy(tmp_path, steps=4, horizon=STEPS)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "loss": 3.')
    train_toy(tmp_path)
    assert same_as(tmp_path, undisturbed)


def test_a_finished_run_is_not_run_again(undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_toy(tmp_path)

    def refuse(*_: object) -> None:
        raise AssertionError("there is nothing to save")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", refuse)
        model = train_toy(tmp_path)
    assert same_as(tmp_path, undisturbed)
    saved = mx.load(str(tmp_path / "checkpoint" / "model.safetensors"))
    assert isinstance(saved, dict)
    for name, value in weights(model).items():
        assert np.array_equal(value, np.array(saved[name])), name


# ---- what a user can mend


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    train_toy(tmp_path, steps=4, horizon=STEPS)
    before = bits(tmp_path)
    with pytest.raises(UserError) as raised:
        train_toy(tmp_path, learning_rate=math.inf)
    assert str(raised.value).splitlines() == [
        "error: The loss became nan at step 6. The last checkpoint is kept.",
        f"where: {tmp_path}",
        "fix:   start again in a new folder with a lower learning rate or a longer warm-up",
    ]
    assert bits(tmp_path) == before


def test_a_loss_that_is_no_number_from_the_start_says_that_nothing_was_saved(tmp_path: Path) -> None:
    model = tiny_model("llama")
    model.model.norm.weight = mx.full(model.model.norm.weight.shape, math.nan)
    with pytest.raises(UserError, match=r"The loss became nan at step 1\. Nothing was saved\."):
        train(model, toy_rows(), toy_settings(), tmp_path)
    assert not (tmp_path / "checkpoint").exists()


def test_too_few_rows_for_a_batch_are_an_error(tmp_path: Path) -> None:
    rows: Rows = pack([Document.whole([1, 2, 3])], length=7)
    with pytest.raises(UserError, match="1 rows do not fill a batch of 4"):
        train(tiny_model("llama"), rows, toy_settings(), tmp_path)
