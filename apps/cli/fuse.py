"""`mlx-suite fuse`: an adapter merged into its model."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from .flags import ModelName
from .output import show

if TYPE_CHECKING:
    from mlx_suite.export.fuse import Fused

OutFolder = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The folder to write.")]


def fuse(
    model: ModelName,
    adapter: Annotated[
        Path, typer.Argument(metavar="ADAPTER", help="Its folder, or that of the run; mlx-lm's layout or PEFT's.")
    ],
    out: OutFolder,
    dequantize: Annotated[
        bool, typer.Option("--dequantize", help="Write dense layers where the model's are packed.")
    ] = False,
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Of the dense weights: float32, bfloat16, float16; else as the model has them."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON for a program to read.")] = False,
) -> None:
    """Merge an adapter into its model, for every program that reads the model.

    The merged model's logits are compared with those of the model and its adapter before anything is written: where
    rounding would lose the adapter, nothing is. A packed model is packed again as it was; few bits lose most adapters,
    so for one that was trained over a packed model (`--quantize-base`) take that model and --dequantize.

    Example: `mlx-suite fuse tiny-llama3 runs/mine --out mine/`
    """
    from mlx_suite.export.fuse import fuse_checkpoint
    from mlx_suite.hub.resolve import resolve
    from mlx_suite.runtime.device import device, set_limits

    folder = resolve(model, progress=not as_json)
    set_limits(device())
    with Console(stderr=True, quiet=as_json).status("merging"):
        fused = fuse_checkpoint(folder, adapter, out, dequantize=dequantize, dtype=dtype)
    if as_json:
        print(json.dumps(asdict(fused) | {"lost": fused.lost, "folder": str(out)}))
        return
    show(_lines(fused, out))


def _lines(fused: "Fused", out: Path) -> list[tuple[str, str]]:
    from mlx_suite.export.fuse import REPORTED_LOSS

    kind = f"{fused.dtype}, {fused.packed} layers packed" if fused.packed else fused.dtype
    lines = [
        ("merged", f"{fused.layers} layers, {kind}"),
        ("adapter", f"changes the logits by {fused.effect.mean:.3g} on average, {fused.effect.largest:.3g} at most"),
        (
            "rounding",
            f"changes them by {fused.error.mean:.3g} on average, {fused.error.largest:.3g} at most: {fused.lost:.2%} "
            "of the adapter's effect",
        ),
    ]
    if fused.lost > REPORTED_LOSS:
        lines.append(("", f"{'--dequantize' if fused.packed else '--dtype float32'} loses less"))
    return [*lines, ("model", str(out)), ("try it", f'mlx-suite generate {out} "…"')]
