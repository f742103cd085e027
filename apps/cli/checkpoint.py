"""The model that a command was given, loaded."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from mlx_suite.text import ChatTemplate, Tokenizer

ModelName = Annotated[
    str, typer.Argument(metavar="MODEL", help="A name from `models list`, a folder, or OWNER/REPO[@REVISION].")
]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model with what belongs to it."""

    name: str
    """For records: the name it was called by; of a folder its last part, since the rest is nobody's business."""
    folder: Path
    model: Any
    tokenizer: "Tokenizer"

    @cached_property
    def template(self) -> "ChatTemplate":
        """Raises UserError where the checkpoint has none."""
        from mlx_suite.text import load_chat_template

        return load_chat_template(self.folder)


def open_checkpoint(name: str, quiet: bool = False) -> Checkpoint:
    """Find the model, fetch it if need be, and load it."""
    # Imported here: MLX and the hub's client take a second that `--help` should not.
    from mlx_suite.loading import load
    from mlx_suite.modeling.hub import resolve
    from mlx_suite.runtime.device import device
    from mlx_suite.runtime.memory import set_limits

    folder = resolve(name, progress=not quiet)
    called = folder.resolve().name if Path(name).expanduser() == folder else name
    set_limits(device())
    with Console(stderr=True, quiet=quiet).status(f"loading {called}"):
        model, tokenizer = load(folder)
    return Checkpoint(name=called, folder=folder, model=model, tokenizer=tokenizer)
