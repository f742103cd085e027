"""Checkpoints: the complete state of a training run, in a folder that is staged and then renamed into place.

A run killed at any moment resumes from its last checkpoint and ends with the weights of an uninterrupted run. A
checkpoint contains the trained weights, the optimizer state, the step and the losses not yet logged; data order and
random numbers are functions of the step. Each file has a checksum, so that damaged files are never trained on.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map_with_path

from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import sha256_of, staged_folder
from mlx_suite.runtime.resume import change, differences, refuse_other
from mlx_suite.training.train_step import TrainStep

NAME = "checkpoint"
AVERAGE = "average.safetensors"
"""Moving average of the parameters, in the checkpoints of runs that keep one."""


@dataclass(frozen=True, kw_only=True)
class State:
    """Progress of a run, apart from its arrays."""

    step: int = 0
    tokens: int = 0
    """Target tokens trained on so far."""
    losses: tuple[float, ...] = ()
    """Losses of the steps since the last log line."""
    best_loss: float | None = None
    best_step: int = 0
    since_best: int = 0
    """Evaluations since the best one."""
    ended_early: bool = False
    identity: Mapping[str, Any] = field(default_factory=dict)
    """Everything that determines the weights: data, model, settings. A run resumes only with the same identity."""


def save_checkpoint(run: Path, state: State, train_step: TrainStep) -> None:
    """Replace `run`/checkpoint with the state after `state.step` optimizer steps."""
    with staged_folder(run / NAME) as folder:
        mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(train_step.master["parameters"])))
        mx.save_safetensors(str(folder / "optimizer.safetensors"), dict(tree_flatten(train_step.optimizer.state)))
        if "average" in train_step.master:
            mx.save_safetensors(str(folder / AVERAGE), dict(tree_flatten(train_step.master["average"])))
        checksums = {path.name: sha256_of(path) for path in sorted(folder.glob("*.safetensors"))}
        (folder / "state.json").write_text(json.dumps(asdict(state) | {"sha256": checksums}, indent=1) + "\n")


def read_state(run: Path) -> State | None:
    """The state in the last checkpoint of `run`, or None without a checkpoint.

    Raises UserError if it cannot be read. The checksums of the arrays are verified by `load_checkpoint`.
    """
    saved = _read(run)
    return None if saved is None else saved[0]


def load_checkpoint(run: Path, train_step: TrainStep, identity: Mapping[str, Any]) -> State:
    """Restore what `save_checkpoint` wrote; a fresh State if there is no checkpoint yet.

    Raises UserError if the checkpoint is damaged or of another model, or if the run was started with another `identity`
    (the differences are listed).
    """
    # A staging folder left by a kill while saving. A finished run saves nothing, so it would stay forever.
    shutil.rmtree(run / f".{NAME}.partial", ignore_errors=True)
    saved = _read(run)
    if saved is None:
        return State(identity=dict(identity))
    state, checksums = saved
    folder = run / NAME
    refuse_other_run(run, state, identity)
    averages = "average" in train_step.master
    _verify(folder, checksums, {"model.safetensors", "optimizer.safetensors", *([AVERAGE] if averages else [])})
    try:
        parameters = _load(folder / "model.safetensors")
        own = dict(tree_flatten(train_step.master["parameters"]))
        if {name: array.shape for name, array in parameters.items()} != {n: a.shape for n, a in own.items()}:
            raise ValueError("its parameters are not the ones that this run trains")
        # Map over the existing trees: frozen modules are empty branches, which names alone would not restore.
        train_step.restore(tree_map_with_path(lambda name, _: parameters[name], train_step.master["parameters"]))
        moments = _load(folder / "optimizer.safetensors")
        train_step.optimizer.state = tree_map_with_path(lambda name, _: moments[name], train_step.optimizer.state)
        if averages:
            average = _load(folder / AVERAGE)
            train_step.master["average"] = tree_map_with_path(
                lambda name, _: average[name], train_step.master["parameters"]
            )
        mx.eval(train_step.model.parameters(), train_step.optimizer.state, train_step.master)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise _unusable(folder, str(error)) from error
    return replace(state, identity=dict(identity))


def refuse_other_run(run: Path, state: State, identity: Mapping[str, Any]) -> None:
    """Raise UserError that lists the differences if `run` was started with another `identity`."""
    removed = [change(name, value, None) for name, value in state.identity.items() if name not in identity]
    refuse_other(sorted([*differences(state.identity, identity), *removed]), run)


def _read(run: Path) -> tuple[State, dict[str, str]] | None:
    """The state, and the checksum of each file of arrays; None without a checkpoint."""
    folder = run / NAME
    if not folder.exists():
        previous = run / f".{NAME}.old"  # left by a kill between two renames, if the system has no atomic swap
        if not previous.exists():
            return None
        previous.rename(folder)
    try:
        saved = json.loads((folder / "state.json").read_text())
        checksums = saved.pop("sha256")
        return State(**saved | {"losses": tuple(saved["losses"])}), dict(checksums)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unusable(folder, str(error)) from error


def _verify(folder: Path, checksums: Mapping[str, str], files: set[str]) -> None:
    """Raise UserError if a file does not match its checksum; a disk, a copy or an edit can damage it, a kill cannot."""
    try:
        damaged = [name for name, checksum in checksums.items() if sha256_of(folder / name) != checksum]
    except OSError as error:
        raise _unusable(folder, str(error)) from error
    if damaged or checksums.keys() != files:
        raise _unusable(folder, f"{' and '.join(damaged) or 'a file'} is damaged or was modified")


def _load(path: Path) -> dict[str, mx.array]:
    arrays = mx.load(str(path))
    assert isinstance(arrays, dict)
    return arrays


def _unusable(folder: Path, why: str) -> UserError:
    reason = (why.splitlines() or ["it cannot be read"])[0]
    return UserError(
        f"The checkpoint cannot be used: {reason}",
        where=str(folder),
        fix="restore the folder from an intact copy, or delete it to train from the start",
    )
