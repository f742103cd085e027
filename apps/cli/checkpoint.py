"""The model named on the command line, loaded with its tokenizer, chat template and adapter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from mlx_suite.engine import Speculation
    from mlx_suite.engine.chat_model import ChatModel
    from mlx_suite.modeling.reward_model import RewardModel
    from mlx_suite.text import ChatTemplate, Tokenizer


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A loaded model."""

    name: str
    """Name for records: as typed, but only the last part of a folder's path, to keep paths out of datasets."""
    folder: Path
    model: Any
    tokenizer: "Tokenizer"
    adapter: str | None = None
    """Folder of the adapter for records, as typed."""
    adapter_folder: Path | None = None
    """Folder with the adapter's files and possibly a chat template."""
    variables: Mapping[str, Any] = field(default_factory=dict)
    """Variables of the chat template."""

    @cached_property
    def template(self) -> "ChatTemplate":
        """The adapter's chat template if it has one, else the model's. Raises UserError if neither has one."""
        from mlx_suite.text import load_chat_template

        return load_chat_template(self.folder, self.variables, adapter=self.adapter_folder)

    @cached_property
    def response_ends(self) -> frozenset[int]:
        """Tokens at which a response stops: see `ChatModel.response_stops`. Raises UserError without a template."""
        return frozenset(self.chat_model().response_stops)

    def chat_model(self, slots: int = 16, style: str = "chat") -> "ChatModel":
        """Return the model for conversations, `slots` at a time; only the style `chat` needs a chat template."""
        from mlx_suite.engine.chat_model import ChatModel

        return ChatModel(
            model=self.model,
            tokenizer=self.tokenizer,
            template=self.template if style == "chat" else None,
            name=self.name,
            folder=self.folder,
            style=style,
            slots=slots,
        )


def open_checkpoint(
    name: str, quiet: bool = False, adapter: Path | None = None, variables: Sequence[str] = ()
) -> Checkpoint:
    """Find a model, download it if necessary, load it, and attach the adapter.

    Args:
        variables: Variables of the chat template, NAME=VALUE each.
    """
    # Imported here to keep `--help` fast: MLX and the hub's client take a second.
    from mlx_suite.checkpoints.trained_run import adapter_folder
    from mlx_suite.hub.resolve import resolve
    from mlx_suite.loading import load
    from mlx_suite.runtime.device import device, set_limits
    from mlx_suite.text.template_variables import read_variables

    values = read_variables(variables)
    folder = resolve(name, progress=not quiet)
    path = Path(name).expanduser()
    short_name = path.resolve().name if path in (folder, folder.parent) else name
    set_limits(device())
    with Console(stderr=True, quiet=quiet).status(f"loading {short_name}"):
        model, tokenizer = load(folder, adapter=adapter)
    return Checkpoint(
        name=short_name,
        folder=folder,
        model=model,
        tokenizer=tokenizer,
        adapter=None if adapter is None else str(adapter),
        adapter_folder=None if adapter is None else adapter_folder(adapter.expanduser()),
        variables=values,
    )


def speculation_for(checkpoint: Checkpoint, *, lookup: bool, draft: str = "") -> "Speculation | None":
    """How a model's next tokens are guessed: by the model `draft`, by prompt lookup, or not at all.

    Raises UserError if the draft model cannot be loaded or has another tokenizer.
    """
    from mlx_suite.engine import DraftModel, PromptLookup, Speculation
    from mlx_suite.runtime.errors import UserError

    if not draft:
        return Speculation(PromptLookup()) if lookup else None
    guesser = open_checkpoint(draft)
    if guesser.tokenizer.backend.digest != checkpoint.tokenizer.backend.digest:
        raise UserError(
            f"{draft} has another tokenizer than {checkpoint.name}",
            where="--draft",
            fix="name a smaller model of the same family, or leave the flag out",
        )
    return Speculation(DraftModel(guesser.model))


def open_reward_model(name: str, quiet: bool) -> "tuple[RewardModel, ChatModel]":
    """Load a reward model, and a chat model that encodes conversations for it."""
    from mlx_suite.checkpoints.load import load_reward_model
    from mlx_suite.engine.chat_model import ChatModel
    from mlx_suite.hub.resolve import resolve
    from mlx_suite.text import load_chat_template, load_tokenizer

    folder = resolve(name, progress=not quiet)
    model = load_reward_model(folder)
    chat = ChatModel(
        model=model,
        tokenizer=load_tokenizer(folder),
        template=load_chat_template(folder),
        name=folder.name if Path(name).expanduser().exists() else name,
    )
    return model, chat
