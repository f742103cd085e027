"""What the stages of Magpie that let a model write have in common: their flags, their progress, their figures."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlx_suite.runtime.progress import Progress

from .checkpoint import Checkpoint

if TYPE_CHECKING:
    from mlx_suite.checkpoints.reward_model import RewardModel
    from mlx_suite.engine.chat_model import ChatModel
    from mlx_suite.evaluate.microworld import Truth

DataName = Annotated[
    str,
    typer.Argument(
        metavar="DATA", help="The folder of a run, a file, a folder, or OWNER/REPO on the hub.", show_default=False
    ),
]
OutFolder = Annotated[
    Path,
    typer.Option("--out", "-o", metavar="DIR", help="The folder to fill; made if missing, continued if begun."),
]
Batch = Annotated[
    int,
    typer.Option("--batch", min=1, metavar="N", help="Texts at a time: more is faster until the memory is full."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the summary as JSON for a program to read.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]


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
    from mlx_suite.checkpoints.reward_model import load_reward_model
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
    """A progress line for each thing that is done, one after the other; each begins with what was there already."""
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
    """What the microworld says of some answers, one line for each side."""
    return [
        (
            "confirmed" if not number else "",
            f"{name}: {each.right:,} of {each.recognised:,} right, {each.share_of_recognised:.0%}",
        )
        for number, (name, each) in enumerate(sides.items())
    ]
