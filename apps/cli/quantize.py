"""`mlx-suite quantize`: quantize a model's weights."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mlx_suite.runtime.memory import human_bytes

from .flags import AsJson, ModelName
from .fuse import ModelFolder
from .output import show

if TYPE_CHECKING:
    from mlx_suite.export.quantize import Quantized


def quantize(
    model: ModelName,
    out: ModelFolder,
    bits: Annotated[int, typer.Option(help="Bits per weight: 2, 3, 4, 6 or 8.")] = 4,
    group_size: Annotated[int, typer.Option(help="Weights that share a scale and a bias: 32, 64 or 128.")] = 64,
    as_json: AsJson = False,
) -> None:
    """Quantize a model to a few bits per weight, in mlx-lm's format.

    Example: `mlx-suite quantize runs/mine --out mine-4bit/ --bits 4`
    """
    from mlx_suite.export.quantize import check, quantize_checkpoint
    from mlx_suite.hub.resolve import resolve
    from mlx_suite.runtime.device import device, set_limits

    check(bits, group_size)
    folder = resolve(model, progress=not as_json)
    set_limits(device())
    with Console(stderr=True, quiet=as_json).status("quantizing"):
        quantized = quantize_checkpoint(folder, out, bits=bits, group_size=group_size)
    if as_json:
        print(json.dumps(asdict(quantized) | {"folder": str(out)}))
        return
    show(_lines(quantized, group_size, out))


def _lines(quantized: "Quantized", group_size: int, out: Path) -> list[tuple[str, str]]:
    share = quantized.bytes_after / quantized.bytes_before
    size = f"{human_bytes(quantized.bytes_before)} before, {human_bytes(quantized.bytes_after)} after ({share:.0%})"
    error = quantized.error
    lines = [
        (
            "quantized",
            f"{quantized.packed} layers, {quantized.bits_per_weight:.2f} bits per weight with scales and biases",
        ),
        ("size", size),
        ("logits", f"change by {error.mean:.3g} on average, {error.largest:.3g} at most, on random tokens"),
        ("", f"the most probable token is the same at {error.agreement:.0%} of the positions"),
        ("model", str(out)),
    ]
    if quantized.left:
        shown = ", ".join(quantized.left[:3]) + (" …" if len(quantized.left) > 3 else "")
        lines.insert(
            1, ("dense", f"{len(quantized.left)} layers with a width not divisible by the group size: {shown}")
        )
        if group_size > 32:
            lines.insert(2, ("", "--group-size 32 may quantize them"))
    return lines
