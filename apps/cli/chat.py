"""`mlx-suite chat`: a conversation in the terminal."""

import sys
from typing import Annotated

import typer

from mlx_suite.runtime.errors import invalid

from ..chat.settings import ResponseSettings
from .checkpoint import open_checkpoint, speculation_for
from .flags import (
    AdapterFolder,
    DraftName,
    Lookup,
    MaxTokens,
    MinP,
    ModelName,
    Temperature,
    TemplateVariables,
    TopP,
    named_as_flags,
    require_packages,
)
from .options import option


def chat(
    model: ModelName,
    adapter: AdapterFolder = None,
    system: Annotated[
        str,
        typer.Option(metavar="TEXT", help="System prompt; a first exchange if the chat template has no system role."),
    ] = "",
    max_tokens: MaxTokens = 1024,
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    min_p: MinP = 0.0,
    template_arg: TemplateVariables = [],  # noqa: B006
    lookup: Lookup = True,
    draft: DraftName = "",
    seed: Annotated[int | None, option(ResponseSettings, "seed")] = None,
) -> None:
    """Chat with a model in the terminal.

    `/help` lists the commands: save and load, retry, edit, undo, other models and adapters, statistics. After a pipe,
    every line is a turn or a command. A terminal needs `pip install 'mlx-suite[chat]'`.

    Example: `mlx-suite chat tiny-llama3`

    Example: `mlx-suite chat OWNER/REPO --adapter runs/mine --system "Be brief." --temperature 0.7`
    """
    settings = ResponseSettings(max_tokens=max_tokens, temperature=temperature, top_p=top_p, min_p=min_p, seed=seed)
    if problems := named_as_flags(settings.problems()):
        raise invalid("flag", problems, "mlx-suite chat --help")
    typed = sys.stdin.isatty() and sys.stdout.isatty()
    if typed:
        require_packages("A chat in a terminal", ["prompt_toolkit"], "prompt_toolkit", "chat")
    # Imported here to keep `--help` fast: MLX takes a second.
    from ..chat.repl.repl import PipeReader, Reader, Repl
    from ..chat.repl.session import Session

    session = Session(
        lambda name, folder: open_checkpoint(name, adapter=folder, variables=template_arg),
        model,
        adapter,
        system=system,
        settings=settings,
        speculate=lambda checkpoint: speculation_for(checkpoint, lookup=lookup, draft=draft),
    )
    reader: Reader
    if typed:
        from ..chat.data_folder import data_folder
        from ..chat.repl.terminal import TerminalReader

        reader = TerminalReader(data_folder() / "chat-history", session.status)
    else:
        reader = PipeReader(sys.stdin.buffer)
    repl = Repl(session, reader)
    repl.run()
    if repl.failed and not typed:
        raise typer.Exit(2)
