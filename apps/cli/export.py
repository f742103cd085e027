"""`mlx-suite export`: what other programs read."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .export_gguf import export_gguf
from .fuse import OutFolder
from .help import HelpCommand, add, new_app
from .output import show

export_app = new_app("export", "Write models and adapters for other programs.")
add(export_app, export_gguf, "gguf")


class Layout(StrEnum):
    """Ways to keep an adapter."""

    peft = "peft"
    mlx = "mlx"


@export_app.command(cls=HelpCommand)
def adapter(
    adapter: Annotated[
        Path, typer.Argument(metavar="ADAPTER", help="Its folder, or that of the run; mlx-lm's layout or PEFT's.")
    ],
    out: OutFolder,
    to: Annotated[Layout, typer.Option(help="peft for Hugging Face's PEFT, mlx for mlx-lm.")] = Layout.peft,
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="The model it belongs to; the adapter is then tried on it first."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON for a program to read.")] = False,
) -> None:
    """Write an adapter as PEFT or mlx-lm keeps it.

    Example: `mlx-suite export adapter runs/mine --to peft --out mine-peft/`

    Example: `mlx-suite export adapter FOLDER-FROM-PEFT --to mlx --out mine/`
    """
    from mlx_suite.adapters.attach import load_adapter, template_beside, write_adapter

    found = load_adapter(adapter)
    blocks = None
    if model is not None:
        from mlx_suite.adapters.attach import apply_adapter, is_tied
        from mlx_suite.checkpoints.load import load_model
        from mlx_suite.hub.resolve import resolve

        loaded = load_model(resolve(model, progress=not as_json), lazy=True)
        apply_adapter(loaded, found, where=str(adapter))
        found = found.on(is_tied(loaded))
        blocks = len(getattr(loaded, "layers", ()))
    write_adapter(out, found, layout=to.value, blocks=blocks, chat_template=template_beside(adapter))
    facts = {
        "folder": str(out),
        "layout": to.value,
        "method": found.config.method,
        "layers": len(found.targets),
        "rank": found.config.rank,
        "parameters": found.parameters,
        "base": found.base,
    }
    if as_json:
        print(json.dumps(facts, ensure_ascii=False))
        return
    show(
        [
            ("adapter", f"{facts['method']} of rank {facts['rank']} on {facts['layers']} layers"),
            ("layout", "PEFT" if to is Layout.peft else "mlx-lm"),
            ("folder", str(out)),
        ]
    )
