"""`mlx-suite export`: adapters and models in the formats of other programs."""

import json
from enum import StrEnum
from typing import Annotated

import typer

from .export_gguf import export_gguf
from .flags import AsJson
from .fuse import AdapterArgument, ModelFolder
from .help import HelpCommand, add, new_app
from .output import show

export_app = new_app("export", "Write models and adapters in the formats of other programs.")
add(export_app, export_gguf, "gguf")


class Layout(StrEnum):
    """File layouts of an adapter."""

    peft = "peft"
    mlx = "mlx"


@export_app.command(cls=HelpCommand)
def adapter(
    adapter: AdapterArgument,
    out: ModelFolder,
    to: Annotated[Layout, typer.Option(help="peft (Hugging Face PEFT) or mlx (mlx-lm).")] = Layout.peft,
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="The adapter's model, to check first that the adapter fits it."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write an adapter in the layout of PEFT or mlx-lm.

    Example: `mlx-suite export adapter runs/mine --to peft --out mine-peft/`

    Example: `mlx-suite export adapter FOLDER-FROM-PEFT --to mlx --out mine/`
    """
    from mlx_suite.adapters.attach import load_adapter, stored_template, write_adapter

    loaded = load_adapter(adapter)
    blocks = None
    if model is not None:
        from mlx_suite.adapters.attach import apply_adapter, is_tied
        from mlx_suite.checkpoints.load import load_model
        from mlx_suite.hub.resolve import resolve

        base = load_model(resolve(model, progress=not as_json), lazy=True)
        apply_adapter(base, loaded, where=str(adapter))
        loaded = loaded.on(is_tied(base))
        blocks = len(getattr(base, "layers", ()))
    write_adapter(out, loaded, layout=to.value, blocks=blocks, chat_template=stored_template(adapter))
    facts = {
        "folder": str(out),
        "layout": to.value,
        "method": loaded.config.method,
        "layers": len(loaded.targets),
        "rank": loaded.config.rank,
        "parameters": loaded.parameters,
        "base": loaded.base,
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
