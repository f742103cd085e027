"""The model that a command was given, loaded."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from mlx_suite.text import ChatTemplate, Tokenizer


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model with what belongs to it."""

    name: str
    """For records: the name it was called by; of a folder its last part, since the rest is nobody's business."""
    folder: Path
    model: Any
    tokenizer: "Tokenizer"
    adapter: str | None = None
    """The adapter on it, for records: its folder as the user calls it."""
    adapter_folder: Path | None = None
    """Where it lies, its chat template beside it."""

    @cached_property
    def template(self) -> "ChatTemplate":
        """The adapter's, or else the checkpoint's. Raises UserError where there is none."""
        from mlx_suite.text import load_chat_template

        return load_chat_template(self.folder, adapter=self.adapter_folder)


def open_checkpoint(name: str, quiet: bool = False, adapter: Path | None = None) -> Checkpoint:
    """Find the model, fetch it if need be, load it, and put the adapter on it if there is one."""
    # Imported here: MLX and the hub's client take a second that `--help` should not.
    from mlx_suite.checkpoints.trained_run import adapter_folder
    from mlx_suite.hub.resolve import resolve
    from mlx_suite.loading import load
    from mlx_suite.runtime.device import device, set_limits

    folder = resolve(name, progress=not quiet)
    given = Path(name).expanduser()
    called = given.resolve().name if given in (folder, folder.parent) else name
    set_limits(device())
    with Console(stderr=True, quiet=quiet).status(f"loading {called}"):
        model, tokenizer = load(folder, adapter=adapter)
    return Checkpoint(
        name=called,
        folder=folder,
        model=model,
        tokenizer=tokenizer,
        adapter=None if adapter is None else str(adapter),
        adapter_folder=None if adapter is None else adapter_folder(adapter.expanduser()),
    )
