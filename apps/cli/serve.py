"""`mlx-suite serve`: the chat page and the API."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mlx_suite.runtime.errors import UserError, invalid

from ..chat.api.settings import ServerSettings
from .checkpoint import open_checkpoint
from .flags import TemplateVariables, named_as_flags, require_packages
from .options import option

PACKAGES = ("fastapi", "uvicorn", "markdown_it", "pygments", "nh3", "prometheus_client", "llguidance")
"""Modules of the extra `serve` without which the server does not start."""


def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL …",
            help="Models: names from `models list`, folders, OWNER/REPO[@REVISION]. The first is the default.",
            show_default=False,
        ),
    ],
    adapter: Annotated[
        list[str],
        typer.Option(metavar="NAME=RUN", help="Serve an adapter as the model NAME. Repeatable."),
    ] = [],  # noqa: B006
    host: Annotated[str, option(ServerSettings, "host")] = "127.0.0.1",
    port: Annotated[int, option(ServerSettings, "port", metavar="N")] = 8080,
    slots: Annotated[int, option(ServerSettings, "slots", metavar="N")] = 16,
    queue: Annotated[int, option(ServerSettings, "queue", metavar="N")] = 64,
    context: Annotated[int | None, option(ServerSettings, "context", metavar="N")] = None,
    memory: Annotated[str | None, option(ServerSettings, "memory", metavar="SIZE")] = None,
    seconds: Annotated[float, option(ServerSettings, "seconds", metavar="S")] = 600.0,
    api_key: Annotated[str | None, option(ServerSettings, "api_key", metavar="KEY")] = None,
    no_key: Annotated[bool, option(ServerSettings, "no_key")] = False,
    allow_host: Annotated[list[str], option(ServerSettings, "allowed_hosts", "--allow-host", metavar="NAME")] = [],  # noqa: B006
    allow_origin: Annotated[list[str], option(ServerSettings, "cors_origins", "--allow-origin", metavar="ORIGIN")] = [],  # noqa: B006
    template_arg: TemplateVariables = [],  # noqa: B006
    browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Serve models: a chat page, and the APIs of OpenAI, Anthropic and Ollama.

    Needs `pip install 'mlx-suite[serve]'`. Ctrl-C stops the server.

    Example: `mlx-suite serve tiny-llama3`

    Example: `mlx-suite serve OWNER/REPO --adapter mine=runs/mine --port 8000`
    """
    settings = ServerSettings(
        host=host,
        port=port,
        slots=slots,
        queue=queue,
        context=context,
        memory=memory,
        seconds=seconds,
        api_key=api_key,
        no_key=no_key,
        allowed_hosts=tuple(allow_host),
        cors_origins=tuple(allow_origin),
    )
    problems = named_as_flags(settings.problems())
    if problems:
        raise invalid("flag", problems, "mlx-suite serve --help")
    adapters = _adapters(adapter)
    require_packages("The server", PACKAGES, "mlx-suite serve", "serve")
    # Imported here to keep `--help` fast.
    from ..chat.server import run_server

    run_server(models, adapters, settings, partial(open_checkpoint, variables=template_arg), browser=browser)


def _adapters(flags: list[str]) -> dict[str, Path]:
    adapters: dict[str, Path] = {}
    for flag in flags:
        name, separator, folder = flag.partition("=")
        if not (name and separator and folder):
            raise UserError(f"--adapter is {flag!r}", where="--adapter", fix="write NAME=RUN: --adapter mine=runs/mine")
        if name in adapters:
            raise UserError(f"--adapter {name} is given twice", where="--adapter", fix="give each adapter its own name")
        adapters[name] = Path(folder)
    return adapters
