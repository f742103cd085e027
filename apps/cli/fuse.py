"""`mlx-suite fuse`: merge an adapter into its model."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from .flags import AsJson, ModelName
from .output import show

if TYPE_CHECKING:
    from mlx_suite.export.fuse import Fused

AdapterArgument = Annotated[
    Path, typer.Argument(metavar="ADAPTER", help="Folder of the adapter or of its run, in mlx-lm's or PEFT's layout.")
]
ModelFolder = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Output folder.")]


def fuse(
    model: ModelName,
    adapter: AdapterArgument,
    out: ModelFolder,
    dequantize: Annotated[bool, typer.Option("--dequantize", help="Write quantized layers as dense ones.")] = False,
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Dtype of dense weights: float32, bfloat16 or float16. Default: the model's."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Merge an adapter into its model, so that any program can load the result.

    Before writing, the logits of the merged model are compared with those of the model and its adapter; if rounding
    would lose the adapter, nothing is written. A quantized model is quantized again in the same way. Few bits lose most
    adapters, so merge an adapter trained on a quantized model (`--quantize-base`) with --dequantize.

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

    kind = f"{fused.dtype}, {fused.packed} quantized layers" if fused.packed else fused.dtype
    lines = [
        ("merged", f"{fused.layers} layers, {kind}"),
        ("adapter", f"changes logits by {fused.effect.mean:.3g} on average, {fused.effect.largest:.3g} at most"),
        (
            "rounding",
            f"changes logits by {fused.error.mean:.3g} on average, {fused.error.largest:.3g} at most: {fused.lost:.2%} "
            "of the adapter's effect",
        ),
    ]
    if fused.lost > REPORTED_LOSS:
        lines.append(("", f"{'--dequantize' if fused.packed else '--dtype float32'} loses less"))
    return [*lines, ("model", str(out)), ("try it", f'mlx-suite generate {out} "…"')]
