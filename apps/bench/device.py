"""Measures one machine in less than nine minutes: correctness, generation, training, packed attention.

Written for machines that the project does not have: anyone with a Mac can run it and send the JSON. Measurements that
exceed memory or the time budget are skipped and listed with the reason.
"""

import importlib.metadata
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlx.core as mx
from rich.console import Console
from rich.table import Table

from mlx_suite.runtime.benchmark import measure_speed
from mlx_suite.runtime.device import Device
from mlx_suite.runtime.device import device as default_device
from mlx_suite.runtime.files import write_atomically

from .device_correctness import CHECKS, Check, check_family
from .device_shapes import FAMILIES, LLAMA_8B, SPEED_SHAPES, Config, Peaks, random_model, tiny
from .device_speed import (
    GenerationSpeed,
    PackedAttention,
    StepSpeed,
    generation_seconds,
    measure_generation,
    measure_packed_attention,
    measure_training,
    model_bytes,
    training_seconds,
)

KIND = "mlx-suite device"
OnProgress = Callable[[str], None]
PRECISIONS = (4, None)
"""Bits per weight; None is bf16. 4-bit comes first, since it fits more machines."""


@dataclass(frozen=True, kw_only=True)
class Workloads:
    """Shapes and sizes to measure, real or tiny."""

    families: dict[str, Config]
    shapes: dict[str, Config]
    training: Config
    rows: tuple[tuple[int, int], ...] = ((1, 512), (8, 256), (32, 128))
    """(rows, tokens per prompt); prompts are shorter for many rows, to save time."""
    tokens: int = 48
    training_tokens: int = 1024
    packed: tuple[int, int] = (2048, 8)
    """(positions, documents) of the packed row."""


FULL = Workloads(families=FAMILIES, shapes=SPEED_SHAPES, training=LLAMA_8B)
TINY = Workloads(
    families={name: tiny(config) for name, config in FAMILIES.items()},
    shapes={name: tiny(config) for name, config in SPEED_SHAPES.items()},
    training=tiny(LLAMA_8B),
    rows=((1, 16), (8, 8)),
    tokens=8,
    training_tokens=64,
    packed=(64, 4),
)


@dataclass(kw_only=True)
class DeviceReport:
    """All measurements of one machine."""

    machine: dict[str, Any]
    versions: dict[str, str]
    created: str
    tiny: bool
    peaks: Peaks
    correctness: list[Check] = field(default_factory=list)
    generation: list[GenerationSpeed] = field(default_factory=list)
    training: list[StepSpeed] = field(default_factory=list)
    packed_attention: PackedAttention | None = None
    skipped: list[str] = field(default_factory=list)
    """Skipped measurements, each with its reason."""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """True if every correctness check that ran is within its limit."""
        return all(check.passed for check in self.correctness)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON fields: sizes in bytes, speeds in GB/s, GFLOP/s and tokens per second."""
        return {"kind": KIND, **asdict(self), "passed": self.passed}


class Budget:
    """Time and memory budget."""

    def __init__(self, minutes: float, device: Device) -> None:
        self.started, self.seconds, self.device = time.perf_counter(), 60 * minutes, device

    @property
    def left(self) -> float:
        """Seconds left."""
        return self.seconds - (time.perf_counter() - self.started)

    def refusal(self, seconds: float, size: int) -> str | None:
        """Return why a measurement of this duration and size must be skipped; None if it may run."""
        if size > self.device.working_set_bytes:
            needed, has = size / 1e9, self.device.working_set_bytes / 1e9
            return f"needs {needed:.0f} GB, the working set is {has:.0f} GB"
        if seconds > self.left:
            return f"needs about {seconds:.0f} s, {max(self.left, 0):.0f} s are left"
        return None


def measure_device(*, minutes: float, tiny: bool, on_progress: OnProgress) -> DeviceReport:
    """Measure MLX's default device within a time budget."""
    device, workloads = default_device(), TINY if tiny else FULL
    budget = Budget(minutes, device)
    on_progress(f"device     {device.name} ({device.kind})")
    speed = measure_speed(device.kind, device.memory_bytes)
    report = DeviceReport(
        machine={
            "device": device.name,
            "kind": device.kind,
            "memory_bytes": device.memory_bytes,
            "working_set_bytes": device.working_set_bytes,
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        },
        versions={name: importlib.metadata.version(name) for name in ("mlx-suite", "mlx", "mlx-lm")}
        | {"python": platform.python_version()},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        tiny=tiny,
        peaks=Peaks(bandwidth=speed.gemv_bandwidth, compute=speed.gemm_bfloat16 or speed.gemm_float32),
    )
    _check_correctness(report, workloads, budget, on_progress)
    _measure_packed(report, workloads, budget, on_progress)
    for bits in PRECISIONS:
        for name, config in workloads.shapes.items():
            _measure_shape(report, name, config, bits, workloads, budget, on_progress)
        _measure_steps(report, bits, workloads, budget, on_progress)
    report.seconds = round(time.perf_counter() - budget.started, 1)
    return report


def save_report(report: DeviceReport, path: Path) -> None:
    """Write the JSON. Raises UserError if the disk is full."""
    write_atomically(path, json.dumps(report.as_dict(), indent=1) + "\n")


def show_report(report: DeviceReport) -> None:
    """Print the tables."""
    console = Console()
    machine, peaks = report.machine, report.peaks
    console.print(
        f"{machine['device']}, {machine['kind']}, {machine['memory_bytes'] / 1e9:.0f} GB; "
        f"{peaks.bandwidth:,.0f} GB/s, {peaks.compute / 1e3:,.2f} TFLOP/s; {report.seconds:.0f} s"
    )
    checks = {(check.family, check.weights, check.what): check for check in report.correctness}
    rows = []
    for family, weights in dict.fromkeys((check.family, check.weights) for check in report.correctness):
        row = [checks.get((family, weights, what)) for what in CHECKS]
        right = all(check.passed for check in row if check is not None)
        rows.append((family, weights, *map(_value, row), "ok" if right else "WRONG"))
    _table(console, ("KL from fp32 (nats)", "weights", "text", "cached", "packed", "LoRA cos", ""), rows)
    _table(
        console,
        ("generation", "weights", "rows", "prefill/s", "of peak", "decode/s", "of bandw.", "GB"),
        [
            (
                *(g.model, g.weights, str(g.rows), f"{g.prefill:,.0f}", f"{g.prefill_share:.0%}"),
                *(f"{g.decode:,.0f}", f"{g.decode_share:.0%}", f"{g.peak_bytes / 1e9:.1f}"),
            )
            for g in report.generation
        ],
    )
    _table(
        console,
        ("training", "method", "tokens", "s/step", "tok/s", "of peak", "GB"),
        [
            (
                *(s.model, s.method, str(s.tokens), f"{s.seconds:.2f}", f"{s.tokens_per_second:,.0f}"),
                *(f"{s.share:.0%}", f"{s.peak_bytes / 1e9:.1f}"),
            )
            for s in report.training
        ],
    )
    if (packed := report.packed_attention) is not None:
        console.print(
            f"packed attention, {packed.documents} documents in {packed.tokens} positions: {packed.packed_ms:.1f} ms; "
            f"the documents separately {packed.alone_ms:.1f} ms, one document {packed.causal_ms:.1f} ms; "
            f"difference {packed.largest_difference:.1g}"
        )
    for line in report.skipped:
        console.print(f"skipped    {line}")


def _check_correctness(report: DeviceReport, workloads: Workloads, budget: Budget, on_progress: OnProgress) -> None:
    for name, config in workloads.families.items():
        for bits in PRECISIONS:
            # At most a third of the time: fp32 matrix products are slow on some CPUs.
            if budget.left < budget.seconds * 2 / 3:
                report.skipped.append(f"correctness of {name}, {_weights(bits)}: a third of the time is used")
                continue
            on_progress(f"correct?   {name}, {_weights(bits)}")
            report.correctness += check_family(name, config, bits)
            mx.clear_cache()


def _measure_packed(report: DeviceReport, workloads: Workloads, budget: Budget, on_progress: OnProgress) -> None:
    tokens, documents = workloads.packed
    on_progress(f"attention  {documents} documents in {tokens} positions")
    report.packed_attention = measure_packed_attention(workloads.training, tokens, documents)
    mx.clear_cache()


def _measure_shape(
    report: DeviceReport,
    name: str,
    config: Config,
    bits: int | None,
    workloads: Workloads,
    budget: Budget,
    on_progress: OnProgress,
) -> None:
    """Measure generation of one model at every number of rows."""
    size = model_bytes(config, bits)
    reason = budget.refusal(0, size + size // 8)
    if reason:
        report.skipped.append(f"{name}, {_weights(bits)}: {reason}")
        return
    model = None
    for rows, prompt in workloads.rows:
        what = f"{name}, {_weights(bits)}, {rows} rows"
        seconds = generation_seconds(config, bits, rows, prompt, workloads.tokens, report.peaks)
        reason = budget.refusal(seconds, size)
        if reason:
            report.skipped.append(f"{what}: {reason}")
            continue
        on_progress(f"speed      {what}")
        model = model or random_model(config, mx.bfloat16, bits)
        report.generation.append(
            measure_generation(name, model, config, bits, rows, prompt, workloads.tokens, report.peaks)
        )
        mx.clear_cache()


def _measure_steps(
    report: DeviceReport, bits: int | None, workloads: Workloads, budget: Budget, on_progress: OnProgress
) -> None:
    """Measure LoRA steps at 8B, or QLoRA steps if `bits` is given."""
    method, config, tokens = "LoRA" if bits is None else "QLoRA", workloads.training, workloads.training_tokens
    size = model_bytes(config, bits)
    activations = 40 * tokens * config["hidden_size"] * config["num_hidden_layers"]
    reason = budget.refusal(training_seconds(config, tokens, report.peaks), size + activations)
    if reason:
        report.skipped.append(f"{method} at 8B: {reason}")
        return
    on_progress(f"training   8B, {method}")
    model = random_model(config, mx.bfloat16, bits)
    report.training.append(measure_training("Llama 8B", model, config, method, tokens, report.peaks))
    del model
    mx.clear_cache()


def _value(check: Check | None) -> str:
    return "" if check is None else f"{check.value:.4f}" if check.measure == "cosine" else f"{check.value:.0e}"


def _weights(bits: int | None) -> str:
    return "bf16" if bits is None else f"{bits}-bit"


def _table(console: Console, headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    if not rows:
        return
    table = Table(box=None, pad_edge=False)
    for heading, first in zip(headings, rows[0], strict=True):
        table.add_column(heading, justify="left" if first[:1].isalpha() else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console.print(table)
