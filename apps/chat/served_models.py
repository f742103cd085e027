"""The models that a server loads: those named on the command line, and adapters that share their weights."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_suite.adapters.attach import Adapter, apply_adapter, load_adapter, share_weights
from mlx_suite.checkpoints.trained_run import adapter_folder
from mlx_suite.runtime.errors import UserError
from mlx_suite.serving.worker import LoadedModel

if TYPE_CHECKING:
    from ..cli.checkpoint import Checkpoint


def load_models(
    models: Sequence[str],
    adapters: Mapping[str, Path],
    opener: "Callable[[str], Checkpoint]",
    context: int | None = None,
) -> list[LoadedModel]:
    """Load models and adapters.

    Args:
        adapters: Folders of adapters, or of their runs, by the name under which they are served.
        opener: Loads a model.
        context: Maximum context in tokens; None for the models' own.

    Raises UserError for a model that cannot be loaded or has no usable chat template, for an adapter that fits none of
    the models, and for a name that is used twice.
    """
    trained = {name: load_adapter(str(adapter_folder(path.expanduser()))) for name, path in adapters.items()}
    checkpoints = [opener(name) for name in models]
    names = [checkpoint.name for checkpoint in checkpoints]
    taken = sorted({name for name in [*names, *adapters] if [*names, *adapters].count(name) > 1})
    if taken:
        raise UserError(
            f"{taken[0]} is the name of two models",
            where="mlx-suite serve",
            fix=f"give the adapter another name: --adapter OTHER={adapters.get(taken[0], 'RUN')}",
        )
    loaded = [_loaded(checkpoint, checkpoint.name, context) for checkpoint in checkpoints]
    for name, adapter in trained.items():
        base, model = _attached(checkpoints, adapter, str(adapters[name]))
        own = replace(base, model=model, adapter_folder=adapter_folder(adapters[name].expanduser()))
        loaded.append(replace(_loaded(own, name, context), base=base.name))
    return loaded


def _loaded(checkpoint: "Checkpoint", name: str, context: int | None) -> LoadedModel:
    chat = replace(checkpoint.chat_model(), name=name)
    if context is not None:
        chat = replace(chat, max_context=min(context, chat.context))
    return LoadedModel(name=name, chat=chat, base=name)


def _attached(checkpoints: "Sequence[Checkpoint]", adapter: Adapter, where: str) -> "tuple[Checkpoint, object]":
    """The first model that the adapter fits, the one it was trained on before others, and that model with it."""
    trained_on = Path(adapter.base).name
    problem: UserError | None = None
    for checkpoint in sorted(checkpoints, key=lambda each: Path(each.name).name != trained_on):
        model = share_weights(checkpoint.model)
        try:
            apply_adapter(model, adapter, where=where)
        except UserError as error:
            problem = problem or error
            continue
        model.eval()  # no dropout
        return checkpoint, model
    assert problem is not None, "a server without models"
    raise problem
