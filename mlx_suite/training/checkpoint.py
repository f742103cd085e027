"""The whole state of a training run, as a folder written beside and renamed.

A run killed at any moment goes on from its last checkpoint and ends with the weights of an undisturbed one: the
trained weights, the optimizer's moments, the step and the sums of the log are saved; the order of the data and the
random numbers follow from the step. Each file's checksum is kept with it: a torn or changed file is never trained on.
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
WHOLE_COPY = "bring a whole copy of the folder back, or delete it to train from the start"


@dataclass(frozen=True, kw_only=True)
class State:
    """Where a run stands, beside its arrays."""

    step: int = 0
    tokens: int = 0
    """Targets trained so far."""
    losses: tuple[float, ...] = ()
    """Of the steps since the last line of the log."""
    best_loss: float | None = None
    best_step: int = 0
    since_best: int = 0
    """Evaluations since the best one."""
    ended_early: bool = False
    identity: Mapping[str, Any] = field(default_factory=dict)
    """What the run was begun with: data, model, settings that decide about the weights."""


def save_checkpoint(run: Path, state: State, train_step: TrainStep) -> None:
    """Replace `run`/checkpoint by the state after `state.step` optimizer steps."""
    with staged_folder(run / NAME) as folder:
        mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(train_step.master["parameters"])))
        mx.save_safetensors(str(folder / "optimizer.safetensors"), dict(tree_flatten(train_step.optimizer.state)))
        sums = {path.name: sha256_of(path) for path in sorted(folder.glob("*.safetensors"))}
        (folder / "state.json").write_text(json.dumps(asdict(state) | {"sha256": sums}, indent=1) + "\n")


def read_state(run: Path) -> State | None:
    """The state of the last checkpoint in `run`; None where there is none.

    Raises UserError for one that cannot be read. Whether its arrays are whole is for `load_checkpoint` to say.
    """
    found = _read(run)
    return None if found is None else found[0]


def _read(run: Path) -> tuple[State, dict[str, str]] | None:
    """The state, and the checksum of each file of arrays."""
    folder = run / NAME
    if not folder.exists():
        moved = run / f".{NAME}.old"  # a kill between the two renames of a system that cannot swap folders
        if not moved.exists():
            return None
        moved.rename(folder)
    try:
        saved = json.loads((folder / "state.json").read_text())
        sums = saved.pop("sha256")
        return State(**saved | {"losses": tuple(saved["losses"])}), dict(sums)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unusable(folder, str(error)) from error


def _refuse_torn(folder: Path, sums: Mapping[str, str]) -> None:
    """A kill cannot damage a checkpoint; a disk, a copy or an editor can."""
    try:
        torn = [name for name, sum_ in sums.items() if sha256_of(folder / name) != sum_]
    except OSError as error:
        raise _unusable(folder, str(error)) from error
    if torn or len(sums) != 2:
        raise _unusable(folder, f"{' and '.join(torn) or 'a file'} is torn or was changed")


def load_checkpoint(run: Path, train_step: TrainStep, identity: Mapping[str, Any]) -> State:
    """Restore what `save_checkpoint` wrote; a fresh State where there is no checkpoint yet.

    Raises UserError for a checkpoint that is damaged, of another model, or begun with another `identity`; what differs
    is named.
    """
    # What a kill has left half written or half deleted; a run that has nothing left to save would keep it.
    shutil.rmtree(run / f".{NAME}.partial", ignore_errors=True)
    found = _read(run)
    if found is None:
        return State(identity=dict(identity))
    state, sums = found
    folder = run / NAME
    refuse_other_run(run, state, identity)
    _refuse_torn(folder, sums)
    try:
        parameters = _load(folder / "model.safetensors")
        own = dict(tree_flatten(train_step.master["parameters"]))
        if {name: array.shape for name, array in parameters.items()} != {n: a.shape for n, a in own.items()}:
            raise ValueError("it holds other parameters than this run trains")
        # Frozen modules are empty branches of these trees, which names alone would not bring back.
        train_step.restore(tree_map_with_path(lambda name, _: parameters[name], train_step.master["parameters"]))
        moments = _load(folder / "optimizer.safetensors")
        train_step.optimizer.state = tree_map_with_path(lambda name, _: moments[name], train_step.optimizer.state)
        mx.eval(train_step.model.parameters(), train_step.optimizer.state)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise _unusable(folder, str(error)) from error
    return replace(state, identity=dict(identity))


def refuse_other_run(run: Path, state: State, identity: Mapping[str, Any]) -> None:
    """Raise UserError that lists the differences if `run` was begun with another `identity`."""
    gone = [change(name, value, None) for name, value in state.identity.items() if name not in identity]
    refuse_other(sorted([*differences(state.identity, identity), *gone]), run)


def _load(path: Path) -> dict[str, mx.array]:
    arrays = mx.load(str(path))
    assert isinstance(arrays, dict)
    return arrays


def _unusable(folder: Path, why: str) -> UserError:
    first = (why.splitlines() or ["it cannot be read"])[0]
    return UserError(f"The checkpoint cannot be used: {first}", where=str(folder), fix=WHOLE_COPY)
