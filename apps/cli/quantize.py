"""`mlx-suite quantize`: a model in fewer bits."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mlx_suite.runtime.memory import human_bytes

from .flags import ModelName
from .fuse import OutFolder
from .output import show

if TYPE_CHECKING:
    from mlx_suite.export.quantize import Quantized


def quantize(
    model: ModelName,
    out: OutFolder,
    bits: Annotated[int, typer.Option(help="Of a weight: 2, 3, 4, 6 or 8.")] = 4,
    group_size: Annotated[int, typer.Option(help="Columns that share a scale and a bias: 32, 64 or 128.")] = 64,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON for a program to read.")] = False,
) -> None:
    """Pack a model's weights into a few bits each, as mlx-lm does.

    Example: `mlx-suite quantize runs/mine --out mine-4bit/ --bits 4`
    """
    from mlx_suite.export.quantize import check, quantize_checkpoint
    from mlx_suite.hub.resolve import resolve
    from mlx_suite.runtime.device import device, set_limits

    check(bits, group_size)
    folder = resolve(model, progress=not as_json)
    set_limits(device())
    with Console(stderr=True, quiet=as_json).status("packing"):
        packed = quantize_checkpoint(folder, out, bits=bits, group_size=group_size)
    if as_json:
        print(json.dumps(asdict(packed) | {"folder": str(out)}))
        return
    show(_lines(packed, group_size, out))


def _lines(packed: "Quantized", group_size: int, out: Path) -> list[tuple[str, str]]:
    share = packed.bytes_after / packed.bytes_before
    size = f"{human_bytes(packed.bytes_before)} before, {human_bytes(packed.bytes_after)} after ({share:.0%})"
    error = packed.error
    lines = [
        ("packed", f"{packed.packed} layers, {packed.bits_per_weight:.2f} bits a weight with scales"),
        ("size", size),
        ("logits", f"differ by {error.mean:.3g} on average, {error.largest:.3g} at most, on random tokens"),
        ("", f"the most probable token stays the same at {error.agreement:.0%} of the positions"),
        ("model", str(out)),
    ]
    if packed.left:
        shown = ", ".join(packed.left[:3]) + (" …" if len(packed.left) > 3 else "")
        lines.insert(1, ("dense", f"{len(packed.left)} layers, whose columns no group divides: {shown}"))
        if group_size > 32:
            lines.insert(2, ("", "--group-size 32 may pack them"))
    return lines
