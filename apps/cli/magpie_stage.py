"""What the stages with a model share: the chat model, the reward model, progress, lines of the summary."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_suite.runtime.progress import Progress

from .checkpoint import Checkpoint

if TYPE_CHECKING:
    from mlx_suite.engine.chat_model import ChatModel
    from mlx_suite.evaluate.microworld import Truth
    from mlx_suite.modeling.reward_model import RewardModel


def chat_model(checkpoint: Checkpoint, batch: int = 16) -> "ChatModel":
    """The checkpoint of a command as a chat model."""
    from mlx_suite.engine.chat_model import ChatModel

    return ChatModel(
        model=checkpoint.model,
        tokenizer=checkpoint.tokenizer,
        template=checkpoint.template,
        name=checkpoint.name,
        folder=checkpoint.folder,
        slots=batch,
    )


def open_reward_model(name: str, quiet: bool) -> "tuple[RewardModel, ChatModel]":
    """A reward model, and the chat model that encodes conversations for it."""
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


@contextmanager
def stages_progress(unit: str, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """One progress line per part, one after the other; each starts with what an earlier run has done."""
    with ExitStack() as stack:
        shown: dict[str, Progress] = {}

        def tell(what: str, done: int, total: int) -> None:
            if quiet:
                return
            if what not in shown:
                if done == total:
                    return
                stack.close()
                shown[what] = stack.enter_context(Progress(what, total, unit=unit, done=done))
            shown[what].update(done)

        yield tell


def verdict_lines(sides: "Mapping[str, Truth]") -> list[tuple[str, str]]:
    """The microworld's verdicts on responses, one line per side."""
    return [
        (
            "confirmed" if not number else "",
            f"{name}: {each.right:,} of {each.recognised:,} right, {each.share_of_recognised:.0%}",
        )
        for number, (name, each) in enumerate(sides.items())
    ]
