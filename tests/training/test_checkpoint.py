"""Checkpoints are atomic, and a damaged one is refused before anything is loaded from it."""

import shutil
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_suite.runtime.errors import UserError
from mlx_suite.training.checkpoint import State, load_checkpoint, read_state, save_checkpoint
from mlx_suite.training.loop import make_optimizer
from mlx_suite.training.train_step import TrainStep
from tests.modeling.tiny import tiny_model
from tests.training.toy import STEPS, bits, toy_model, toy_settings, train_in, train_toy, weights

TOY = {"data": "toy"}


def fresh(family: str = "llama") -> TrainStep:
    """An untrained model with its optimizer."""
    model = tiny_model(family, 7, num_hidden_layers=2, tie_word_embeddings=True)
    return TrainStep(model, make_optimizer(toy_settings()), clip=1.0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("trained")
    train_toy(run, steps=4)
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy that a test may modify."""
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def refused(run: Path, family: str = "llama") -> list[str]:
    """Lines of the error raised by loading."""
    with pytest.raises(UserError) as raised:
        load_checkpoint(run, fresh(family), TOY)
    return str(raised.value).splitlines()


def test_without_a_checkpoint_a_run_starts_at_step_0_with_its_own_weights(tmp_path: Path) -> None:
    train_step = fresh()
    before = weights(train_step.model)
    assert load_checkpoint(tmp_path, train_step, TOY) == State(identity=TOY)
    assert all(np.array_equal(value, before[name]) for name, value in weights(train_step.model).items())


def test_weights_moments_and_state_survive_a_round_trip(trained: Path, tmp_path: Path) -> None:
    train_step = fresh()
    state = load_checkpoint(trained, train_step, TOY)
    assert (state.step, state.identity, state.losses) == (4, TOY, ())
    assert state.tokens > 0
    assert int(train_step.optimizer.step.item()) == 4
    save_checkpoint(tmp_path, state, train_step)
    assert bits(tmp_path) == bits(trained)
    assert {path.name for path in (tmp_path / "checkpoint").iterdir()} == {
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
    }


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_a_16_bit_model_resumes_from_its_fp32_master_weights(dtype: mx.Dtype, tmp_path: Path) -> None:
    model = toy_model()
    model.set_dtype(dtype)
    train_in(tmp_path, model, steps=2, horizon=STEPS)
    saved = mx.load(str(tmp_path / "checkpoint" / "model.safetensors"))
    assert isinstance(saved, dict)
    assert {array.dtype for array in saved.values()} == {mx.float32}
    train_step = TrainStep(toy_model(), make_optimizer(toy_settings()), clip=1.0)
    train_step.model.set_dtype(dtype)
    load_checkpoint(tmp_path, train_step, TOY)
    for name, value in tree_flatten(train_step.model.parameters()):
        assert value.dtype == dtype
        assert mx.array_equal(value, saved[name].astype(dtype)), name


def test_another_identity_is_refused_and_the_differences_are_listed(run: Path) -> None:
    with pytest.raises(UserError) as raised:
        load_checkpoint(run, fresh(), {"data": "other", "rank": 8})
    assert str(raised.value).splitlines() == [
        "error: The folder was started with other settings",
        '       - data: was "toy", now "other"',
        "       - rank: was none, now 8",
        f"where: {run}",
        "fix:   choose another folder with --out, or use the settings it was started with",
    ]


def test_a_partial_checkpoint_is_ignored_and_removed_by_the_next_save(run: Path) -> None:
    partial = run / ".checkpoint.partial"
    partial.mkdir()
    (partial / "model.safetensors").write_bytes(b"half of a f")
    (partial / "state.json").write_text('{"step": 99}')

    train_step = fresh()
    state = load_checkpoint(run, train_step, TOY)
    assert state.step == 4
    save_checkpoint(run, replace(state, step=5), train_step)
    assert read_state(run) == replace(state, step=5)
    assert not partial.exists()


def test_a_partial_checkpoint_is_removed_even_if_no_step_remains(run: Path) -> None:
    (run / ".checkpoint.partial").mkdir()
    train_toy(run, steps=4)
    assert {path.name for path in run.iterdir()} == {"checkpoint", "metrics.jsonl"}


def test_a_kill_between_two_renames_keeps_the_previous_checkpoint(run: Path) -> None:
    # Only on systems that cannot swap two folders atomically.
    (run / "checkpoint").rename(run / ".checkpoint.old")
    assert load_checkpoint(run, fresh(), TOY).step == 4
    assert {path.name for path in run.iterdir()} == {"checkpoint", "metrics.jsonl"}


def test_an_error_while_saving_keeps_the_previous_checkpoint(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, train_step = bits(run), fresh()

    def full(*_: object) -> None:
        raise RuntimeError("[write] Unable to write 4096 bytes to file.")

    with monkeypatch.context() as patch:
        patch.setattr(mx, "save_safetensors", full)
        with pytest.raises(UserError, match="The disk is full"):
            save_checkpoint(run, State(step=5), train_step)
    assert bits(run) == before
    assert {path.name for path in run.iterdir()} == {"checkpoint", "metrics.jsonl"}


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_checkpoint_with_a_missing_file_is_refused(name: str, run: Path) -> None:
    (run / "checkpoint" / name).unlink()
    error = refused(run)
    assert error[0].startswith("error: The checkpoint cannot be used: ")
    assert error[1:] == [
        f"where: {run / 'checkpoint'}",
        "fix:   restore the folder from an intact copy, or delete it to train from the start",
    ]


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_checkpoint_with_a_truncated_file_is_refused(name: str, share: float, run: Path) -> None:
    path = run / "checkpoint" / name
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert refused(run)[0].startswith("error: The checkpoint cannot be used: ")


def test_a_flipped_bit_is_detected_and_the_file_named(run: Path) -> None:
    path = run / "checkpoint" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)
    error = refused(run)
    assert error[0] == "error: The checkpoint cannot be used: model.safetensors is damaged or was modified"


def test_a_checkpoint_of_another_model_is_refused(run: Path) -> None:
    assert refused(run, family="gemma2")[0].startswith("error: The checkpoint cannot be used: ")


def test_moments_are_saved_under_the_names_of_their_parameters(trained: Path) -> None:
    moments = mx.load(str(trained / "checkpoint" / "optimizer.safetensors"))
    assert isinstance(moments, dict)
    names = {name for name, _ in tree_flatten(fresh().model.parameters())}
    assert set(moments) == {f"{name}.{moment}" for name in names for moment in ("m", "v")} | {"step", "learning_rate"}
