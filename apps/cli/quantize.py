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
    bits: Annotated[int, typer.Option(help="Bits per weight: 2, 3, 4, 5, 6 or 8.")] = 4,
    group_size: Annotated[int, typer.Option(help="Weights that share a scale and a bias: 32, 64 or 128.")] = 64,
    target_bpw: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Mixed bits: X bits per weight on average, scales and biases included; the layers that matter most "
            "get --high-bits, the others --bits.",
        ),
    ] = None,
    high_bits: Annotated[int, typer.Option(help="Bits of the layers that matter most, with --target-bpw.")] = 6,
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Text file on which the loss is measured and layers are chosen. Default: text that the model "
            "itself writes.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Quantize a model to a few bits per weight, in mlx-lm's format.

    Measures the perplexity before and after, and says what was lost: nothing (a rise of at most 1 %, and the same most
    probable token at 95 % of the positions), a small loss (6 %, 90 %), a loss (25 %, 75 %), or a large loss.

    Example: `mlx-suite quantize runs/mine --out mine-4bit/ --bits 4`

    Example: `mlx-suite quantize runs/mine --out mine-mixed/ --bits 4 --target-bpw 5.5 --calibration notes.txt`
    """
    from mlx_suite.export.quantize import check, quantize_checkpoint
    from mlx_suite.hub.resolve import resolve
    from mlx_suite.runtime.device import device, set_limits

    check(bits, group_size, target_bpw, high_bits)
    folder = resolve(model, progress=not as_json)
    set_limits(device())
    with Console(stderr=True, quiet=as_json).status("quantizing"):
        quantized = quantize_checkpoint(
            folder,
            out,
            bits=bits,
            group_size=group_size,
            target_bpw=target_bpw,
            high_bits=high_bits,
            calibration=calibration,
        )
    if as_json:
        loss = quantized.loss
        verdict = {"rise": loss.rise, "verdict": loss.verdict}
        print(json.dumps(asdict(quantized) | verdict | {"folder": str(out)}))
        return
    show(_lines(quantized, group_size, out))


def _lines(quantized: "Quantized", group_size: int, out: Path) -> list[tuple[str, str]]:
    share = quantized.bytes_after / quantized.bytes_before
    size = f"{human_bytes(quantized.bytes_before)} before, {human_bytes(quantized.bytes_after)} after ({share:.0%})"
    loss = quantized.loss
    change = f"{'rises' if loss.rise >= 0 else 'falls'} by {abs(loss.rise):.1%}"
    parts = ", ".join(f"{name} {value:.1f} s" for name, value in quantized.seconds.items())
    lines = [
        (
            "quantized",
            f"{quantized.packed} layers, {quantized.bits_per_weight:.2f} bits per weight with scales and biases",
        ),
        ("size", size),
        (
            "perplexity",
            f"{loss.before:.2f} before, {loss.after:.2f} after, on {loss.tokens:,} tokens {quantized.source}",
        ),
        ("", f"the most probable token is the same at {loss.agreement:.1%} of the positions"),
        ("verdict", f"{loss.verdict}: the perplexity {change}"),
        ("time", f"{parts}; at most {human_bytes(quantized.peak_bytes)} of memory"),
        ("model", str(out)),
    ]
    if quantized.high:
        shown = ", ".join(quantized.high[:3]) + (" …" if len(quantized.high) > 3 else "")
        lines.insert(1, ("mixed", f"{len(quantized.high)} layers with more bits: {shown}"))
    if quantized.left:
        shown = ", ".join(quantized.left[:3]) + (" …" if len(quantized.left) > 3 else "")
        lines.insert(
            1, ("dense", f"{len(quantized.left)} layers with a width not divisible by the group size: {shown}")
        )
        if group_size > 32:
            lines.insert(2, ("", "--group-size 32 may quantize them"))
    return lines
