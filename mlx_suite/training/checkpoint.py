"""The whole state of a training run, as a folder written beside and renamed.

A run killed at any moment goes on from its last checkpoint and ends with the weights of an undisturbed one: the
weights, the optimizer's moments and the step are saved; the data order follows from the step.
"""

import json
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten, tree_unflatten

from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import staged_folder

NAME = "checkpoint"


def save_checkpoint(run: Path, step: int, model: nn.Module, optimizer: optim.Optimizer) -> None:
    """Replace `run`/checkpoint by the state after `step` optimizer steps."""
    with staged_folder(run / NAME) as folder:
        mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())))
        mx.save_safetensors(str(folder / "optimizer.safetensors"), dict(tree_flatten(optimizer.state)))
        (folder / "state.json").write_text(json.dumps({"step": step}))


def load_checkpoint(run: Path, model: nn.Module, optimizer: optim.Optimizer) -> int:
    """Restore what `save_checkpoint` wrote; returns the step, 0 where there is no checkpoint yet.

    Raises UserError for a checkpoint that is damaged or of another model. A kill cannot damage one.
    """
    folder = run / NAME
    if not folder.exists():
        return 0
    try:
        step = int(json.loads((folder / "state.json").read_text())["step"])
        model.load_weights(str(folder / "model.safetensors"))
        moments = mx.load(str(folder / "optimizer.safetensors"))
        assert isinstance(moments, dict)
        optimizer.state = tree_unflatten(list(moments.items()))
        mx.eval(model.parameters(), optimizer.state)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"The checkpoint cannot be used: {first}",
            where=str(folder),
            fix="bring a whole copy of the folder back, or delete it to train from the start",
        ) from error
    return step
