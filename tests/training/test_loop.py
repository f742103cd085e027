"""The training loop: the loss falls, the log is right, and an interrupted run ends like an uninterrupted one."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_suite.runtime.errors import UserError
from mlx_suite.training import loop
from mlx_suite.training.loop import Callbacks, train
from tests.modeling.tiny import tiny_model
from tests.training.toy import STEPS, bits, toy_batches, toy_model, toy_settings, train_in, train_toy, weights

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


def log(run: Path, kind: str = "train") -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("uninterrupted")
    usual = mx.default_device()
    mx.set_default_device(mx.cpu)
    train_toy(run)
    mx.set_default_device(usual)
    return run


def same_as(run: Path, uninterrupted: Path) -> bool:
    """Whether two runs ended with bit-identical weights and moments and the same logged steps and losses."""
    keys = ("kind", "step", "loss", "learning_rate", "gradient_norm", "tokens")
    logs = [[[line.get(key) for key in keys] for line in log(each)] for each in (run, uninterrupted)]
    return bits(run) == bits(uninterrupted) and logs[0] == logs[1]


# ---- learning


def test_the_loss_falls_on_a_learnable_task(tmp_path: Path) -> None:
    train_toy(tmp_path, steps=60, log_every=10, save_every=100)
    losses = [line["loss"] for line in log(tmp_path)]
    assert len(losses) == 6
    assert losses[-1] < 0.4 * losses[0]


@pytest.mark.slow
def test_the_loss_falls_for_gemma_too(tmp_path: Path) -> None:
    train_toy(tmp_path, steps=60, family="gemma2", log_every=10, save_every=100)
    losses = [line["loss"] for line in log(tmp_path)]
    assert losses[-1] < 0.4 * losses[0]


def test_a_log_line_has_step_loss_learning_rate_and_speed(tmp_path: Path) -> None:
    train_toy(tmp_path, steps=5, log_every=2, save_every=100, floor=0.1)
    lines = log(tmp_path)
    assert [line["step"] for line in lines] == [2, 4, 5]
    keys = {"kind", "step", "epoch", "loss", "learning_rate", "gradient_norm", "tokens", "tokens_per_second"}
    assert all(set(line) == keys | {"peak_bytes"} for line in lines)
    assert lines[0]["learning_rate"] == pytest.approx(0.002)  # two of three warmup steps to 0.003
    assert all(line["tokens_per_second"] > 0 for line in lines)


def test_a_log_line_has_the_mean_loss_since_the_previous_one(tmp_path: Path) -> None:
    train_toy(tmp_path / "each", steps=6)
    train_toy(tmp_path / "thirds", steps=6, log_every=3)
    each = [line["loss"] for line in log(tmp_path / "each")]
    means = [sum(each[:3]) / 3, sum(each[3:]) / 3]
    assert [line["loss"] for line in log(tmp_path / "thirds")] == pytest.approx(means, abs=2e-5)


def test_the_gradient_is_clipped_by_its_global_norm(tmp_path: Path) -> None:
    # AdamW's first update does not depend on the scale of the gradient, but its moments do.
    train_toy(tmp_path, steps=1, clip=1e-3)
    moments = mx.load(str(tmp_path / "checkpoint" / "optimizer.safetensors"))
    assert isinstance(moments, dict)
    total = sum(float((value * value).sum().item()) for name, value in moments.items() if name.endswith(".m"))
    assert math.sqrt(total) == pytest.approx(0.1 * 1e-3, rel=1e-3)  # (1 − β₁) times the clipped gradient


# ---- evaluation


def test_evaluations_include_one_before_the_first_step_and_one_after_the_last(tmp_path: Path) -> None:
    train_toy(tmp_path, steps=7, eval_every=3)
    assert [line["step"] for line in log(tmp_path, "valid")] == [0, 3, 6, 7]
    losses = [line["loss"] for line in log(tmp_path, "valid")]
    assert losses == sorted(losses, reverse=True)
    assert all(line["best"] for line in log(tmp_path, "valid"))


def test_the_validation_loss_is_a_mean_over_tokens_not_over_batches(tmp_path: Path) -> None:
    for batch in (1, 3):
        train_toy(tmp_path / str(batch), steps=1, eval_every=100, batch=batch)
    first, second = (log(tmp_path / str(batch), "valid")[0]["loss"] for batch in (1, 3))
    assert first == pytest.approx(second, abs=2e-5)


def test_early_stopping_ends_a_run_that_does_not_improve(tmp_path: Path) -> None:
    result = train_in(tmp_path, toy_model(), steps=40, learning_rate=1e-30, eval_every=2, patience=3)
    # The weights stay put: the loss before the first step is the best, and three evaluations exhaust the patience.
    assert (result.state.step, result.state.best_step, result.state.ended_early) == (6, 0, True)
    assert train_in(tmp_path, toy_model(), steps=40, learning_rate=1e-30, eval_every=2, patience=3) == result


def test_a_larger_patience_resumes_a_run_that_ended_early(tmp_path: Path) -> None:
    how = {"steps": 12, "learning_rate": 1e-30, "eval_every": 2}
    assert train_in(tmp_path, toy_model(), patience=2, **how).state.step == 4
    assert train_in(tmp_path, toy_model(), patience=4, **how).state.step == 8
    result = train_in(tmp_path, toy_model(), patience=0, **how)
    assert (result.state.step, result.state.ended_early) == (12, False)


@pytest.mark.usefixtures("uncompiled")
def test_a_nan_validation_loss_is_never_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([math.nan, 3.0, 2.0])
    monkeypatch.setattr(loop.TrainStep, "mean_loss", lambda train_step, batches: next(losses))
    result = train_in(tmp_path, toy_model(), steps=2, eval_every=1)
    assert (result.state.best_step, result.state.best_loss) == (2, 2.0)
    assert [line["best"] for line in log(tmp_path, "valid")] == [False, True, True]


@pytest.mark.usefixtures("uncompiled")
def test_weights_with_an_infinite_validation_loss_are_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([3.0, 2.0, math.inf])
    monkeypatch.setattr(loop.TrainStep, "mean_loss", lambda train_step, batches: next(losses))
    with pytest.raises(UserError, match=r"The validation loss became inf at step 2\. The checkpoint of step 1 "):
        train_in(tmp_path, toy_model(), steps=3, eval_every=1, save_every=1)
    assert json.loads((tmp_path / "checkpoint" / "state.json").read_text())["step"] == 1


@pytest.mark.usefixtures("uncompiled")
def test_an_invalid_log_line_is_removed_on_resume(tmp_path: Path) -> None:
    train_in(tmp_path, toy_model(), steps=2, horizon=4, save_every=1)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write("what is this\n")
    train_in(tmp_path, toy_model(), steps=4, save_every=1)
    assert [line["step"] for line in log(tmp_path)] == [1, 2, 3, 4]


# ---- interruptions


def test_ctrl_c_finishes_the_current_step_and_the_same_call_resumes(uninterrupted: Path, tmp_path: Path) -> None:
    ctrl_c = Callbacks(step=lambda step, loss, trained: step == 6 and signal.raise_signal(signal.SIGINT))
    result = train(toy_model(), toy_batches(), toy_settings(), tmp_path, identity={"data": "toy"}, callbacks=ctrl_c)
    assert (result.stopped, result.state.step) == (True, 6)
    train_toy(tmp_path)
    assert same_as(tmp_path, uninterrupted)


def test_a_stop_between_two_log_lines_adds_a_line_and_restarts_its_mean(tmp_path: Path) -> None:
    for name, stops in (("whole", []), ("stopped", [7])):
        for steps in [*stops, STEPS]:
            train_toy(tmp_path / name, steps=steps, horizon=STEPS, log_every=5)
    whole, stopped = (log(tmp_path / name) for name in ("whole", "stopped"))
    assert [line["step"] for line in stopped] == [5, 7, 10, 12]  # the first call ended at 7 with a line
    assert stopped[2]["loss"] != whole[1]["loss"]
    assert [line["step"] for line in whole] == [5, 10, 12]


def test_training_is_deterministic(uninterrupted: Path, tmp_path: Path) -> None:
    train_toy(tmp_path)
    assert same_as(tmp_path, uninterrupted)


@pytest.mark.parametrize("stop", [4, 5, 11])
def test_resume_is_bit_exact_after_a_stop(stop: int, uninterrupted: Path, tmp_path: Path) -> None:
    train_toy(tmp_path, steps=stop, horizon=STEPS)
    train_toy(tmp_path)
    assert same_as(tmp_path, uninterrupted)


@pytest.mark.parametrize("file", [3, 4], ids=["between two files of a checkpoint", "before its rename"])
def test_resume_is_bit_exact_after_a_kill(file: int, uninterrupted: Path, tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", CHILD, str(tmp_path), str(file)]
    killed = subprocess.run(arguments, cwd=REPOSITORY, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert json.loads((tmp_path / "checkpoint" / "state.json").read_text())["step"] == 4
    assert [line["step"] for line in log(tmp_path)] == [1, 2, 3, 4, 5, 6, 7, 8]

    train_toy(tmp_path)
    assert [line["step"] for line in log(tmp_path)] == list(range(1, STEPS + 1))
    assert same_as(tmp_path, uninterrupted)


FREQUENT_SAVES = """
import sys
from pathlib import Path
import mlx_suite
import mlx.core as mx
mx.set_default_device(mx.cpu)
from tests.training.toy import train_toy
train_toy(Path(sys.argv[1]), save_every=1, eval_every=3, log_every=2)
"""


@pytest.mark.slow
def test_a_run_killed_repeatedly_at_random_moments_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    """Every step is saved, so about half of the kills hit a save."""
    random = np.random.default_rng(4)

    def begin(run: Path) -> subprocess.Popen[bytes]:
        run.mkdir(exist_ok=True)
        uncompiled = os.environ | {"MLX_DISABLE_COMPILE": "1"}
        return subprocess.Popen([sys.executable, "-c", FREQUENT_SAVES, str(run)], cwd=REPOSITORY, env=uncompiled)

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert begin(whole).wait(timeout=60) == 0
    kills, code = 0, -1
    for _ in range(30):
        process, state = begin(killed), killed / "checkpoint" / "state.json"
        before = state.read_bytes() if state.exists() else b""
        while process.poll() is None and (state.read_bytes() if state.exists() else b"") == before:
            time.sleep(0.002)
        time.sleep(random.uniform(0, 0.03))
        process.kill()
        code = process.wait()
        if code == 0:
            break
        kills += 1
    assert code == 0 and kills >= 2
    assert same_as(killed, whole)
    assert {path.name for path in killed.iterdir()} == {"checkpoint", "metrics.jsonl"}


def test_a_truncated_log_line_is_rewritten_on_resume(uninterrupted: Path, tmp_path: Path) -> None:
    train_toy(tmp_path, steps=4, horizon=STEPS)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "loss": 3.')
    train_toy(tmp_path)
    assert same_as(tmp_path, uninterrupted)


def test_a_finished_run_loads_its_weights_without_training(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_toy(tmp_path)

    def refuse(*_: object) -> None:
        raise AssertionError("there is nothing to save")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", refuse)
        model = train_toy(tmp_path)
    assert same_as(tmp_path, uninterrupted)
    saved = mx.load(str(tmp_path / "checkpoint" / "model.safetensors"))
    assert isinstance(saved, dict)
    for name, value in weights(model).items():
        assert np.array_equal(value, np.array(saved[name])), name


# ---- divergence


def test_a_nan_loss_stops_the_run_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    train_toy(tmp_path, steps=4, horizon=STEPS)
    before = bits(tmp_path)
    with pytest.raises(UserError) as raised:
        train_toy(tmp_path, learning_rate=math.inf)
    assert str(raised.value).splitlines() == [
        "error: The loss became nan at step 6. The checkpoint of step 4 is kept.",
        f"where: {tmp_path}",
        "fix:   start again in a new folder with a lower learning rate or a longer warmup",
    ]
    assert bits(tmp_path) == before


def test_a_nan_loss_at_step_1_reports_that_nothing_was_saved(tmp_path: Path) -> None:
    model = tiny_model("llama")
    model.model.norm.weight = mx.full(model.model.norm.weight.shape, math.nan)
    with pytest.raises(UserError, match=r"The loss became nan at step 1\. Nothing was saved\."):
        train(model, toy_batches(), toy_settings(), tmp_path)
    assert not (tmp_path / "checkpoint").exists()
