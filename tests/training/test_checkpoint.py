"""A checkpoint is whole or not there; a damaged one is named and never half used."""

import json
import shutil
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_suite.runtime.errors import UserError
from mlx_suite.training.checkpoint import load_checkpoint, save_checkpoint
from mlx_suite.training.loop import make_optimizer
from tests.modeling.tiny import tiny_model
from tests.training.toy import bits, toy_settings, train_toy, weights


def fresh(family: str = "llama", seed: int = 7) -> tuple[nn.Module, optim.Optimizer]:
    """A model that has seen nothing, and its optimizer."""
    model = tiny_model(family, seed, num_hidden_layers=2, tie_word_embeddings=True)
    optimizer = make_optimizer(toy_settings())
    optimizer.init(model.trainable_parameters())
    return model, optimizer


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("trained")
    train_toy(run, steps=4)
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def refused(run: Path, family: str = "llama") -> list[str]:
    """The lines of the error that loading ends with."""
    with pytest.raises(UserError) as raised:
        load_checkpoint(run, *fresh(family))
    return str(raised.value).splitlines()


def test_without_a_checkpoint_a_run_begins_at_step_0_with_its_own_weights(tmp_path: Path) -> None:
    model, optimizer = fresh()
    before = weights(model)
    assert load_checkpoint(tmp_path, model, optimizer) == 0
    assert all(np.array_equal(value, before[name]) for name, value in weights(model).items())


def test_what_was_saved_comes_back_weights_moments_and_step(trained: Path, tmp_path: Path) -> None:
    model, optimizer = fresh()
    assert load_checkpoint(trained, model, optimizer) == 4
    assert int(optimizer.step.item()) == 4
    save_checkpoint(tmp_path, 4, model, optimizer)
    assert bits(tmp_path) == bits(trained)
    assert {path.name for path in (tmp_path / "checkpoint").iterdir()} == {
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
    }


def test_a_half_written_checkpoint_beside_it_is_not_looked_at_and_cleared_by_the_next(run: Path) -> None:
    partial = run / ".checkpoint.partial"
    partial.mkdir()
    (partial / "model.safetensors").write_bytes(b"half of a f")
    (partial / "state.json").write_text('{"step": 99}')

    model, optimizer = fresh()
    assert load_checkpoint(run, model, optimizer) == 4
    save_checkpoint(run, 5, model, optimizer)
    assert json.loads((run / "checkpoint" / "state.json").read_text()) == {"step": 5}
    assert not partial.exists()


def test_an_error_while_saving_leaves_the_checkpoint_before(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = bits(run)
    model, optimizer = fresh()

    def full(*_: object) -> None:
        raise RuntimeError("[write] Unable to write 4096 bytes to file.")

    with monkeypatch.context() as patch:
        patch.setattr(mx, "save_safetensors", full)
        with pytest.raises(UserError, match="The disk is full"):
            save_checkpoint(run, 5, model, optimizer)
    assert bits(run) == before
    assert {path.name for path in run.iterdir()} == {"checkpoint", "metrics.jsonl"}


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_checkpoint_without_one_of_its_files_is_named(name: str, run: Path) -> None:
    (run / "checkpoint" / name).unlink()
    said = refused(run)
    assert said[0].startswith("error: The checkpoint cannot be used: ")
    assert said[1:] == [
        f"where: {run / 'checkpoint'}",
        "fix:   bring a whole copy of the folder back, or delete it to train from the start",
    ]


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_checkpoint_with_a_torn_file_is_refused(name: str, share: float, run: Path) -> None:
    path = run / "checkpoint" / name
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert refused(run)[0].startswith("error: The checkpoint cannot be used: ")


def test_a_checkpoint_of_another_model_is_refused(run: Path) -> None:
    assert refused(run, family="gemma2")[0].startswith("error: The checkpoint cannot be used: ")


def test_moments_are_saved_under_the_names_of_their_weights(trained: Path) -> None:
    moments = mx.load(str(trained / "checkpoint" / "optimizer.safetensors"))
    assert isinstance(moments, dict)
    names = {name for name, _ in tree_flatten(fresh()[0].parameters())}
    assert set(moments) == {f"{name}.{moment}" for name in names for moment in ("m", "v")} | {"step", "learning_rate"}
