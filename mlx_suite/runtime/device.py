"""Which device computes, and in which precision weights live on it."""

from __future__ import annotations

import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .backend import import_mlx
from .blas import Blas, load_blas
from .memory import machine_memory

Kind = Literal["metal", "cuda", "cpu"]


@dataclass(frozen=True, kw_only=True)
class Device:
    """The device that MLX computes on."""

    kind: Kind
    name: str
    """What the maker calls it, for instance "Apple M4 Max"."""
    memory_bytes: int
    """The machine's memory on Metal and CPU (cut by the container), the card's on CUDA."""
    working_set_bytes: int
    """What a program should stay within: past it macOS swaps, CUDA refuses, Linux kills."""
    blas: Blas | None
    """The BLAS behind matrix products; None on a GPU, which has its own."""


@dataclass(frozen=True, kw_only=True)
class Precision:
    """How a checkpoint's weights are held in memory."""

    dtype: str
    """MLX dtype name of the dense weights: "float32", "bfloat16" or "float16"."""
    dequantize: bool
    """Whether quantized weights are expanded to `dtype` on loading."""


def device() -> Device:
    """MLX's default device: the GPU where there is one, unless the CPU was made the default."""
    mx = import_mlx()
    info = _device_info(mx)
    if mx.default_device() == mx.Device(mx.cpu):
        return _cpu(info)
    if mx.metal.is_available():
        memory = _number(info, "memory_size") or machine_memory()
        return Device(
            kind="metal",
            name=str(info.get("device_name") or processor_name()),
            memory_bytes=memory,
            working_set_bytes=_number(info, "max_recommended_working_set_size") or memory * 2 // 3,
            blas=None,
        )
    # The CUDA build says "available" without a card too; then it knows no facts about one.
    if hasattr(mx, "cuda") and mx.cuda.is_available() and info:
        memory = _number(info, "total_memory") or _number(info, "memory_size") or machine_memory()
        return Device(
            kind="cuda",
            name=str(info.get("device_name") or "NVIDIA GPU"),
            memory_bytes=memory,
            working_set_bytes=memory * 9 // 10,
            blas=None,
        )
    return _cpu(info)


def fits(bytes_needed: int) -> bool:
    """Whether so many bytes stay within the default device's working set."""
    return bytes_needed <= device().working_set_bytes


def weights_dtype(kind: Kind, checkpoint_dtype: str, quantized: bool) -> Precision:
    """The precision policy.

    A GPU keeps what the checkpoint has: its dtype, and quantized weights as they are. On the CPU
    everything becomes dense float32: bf16 and quantized products there run one to two orders of
    magnitude slower than a float32 BLAS.

    Args:
        kind: `Device.kind`.
        checkpoint_dtype: dtype of the checkpoint's dense tensors ("bfloat16", also as
            "torch.bfloat16").
        quantized: Whether the checkpoint holds MLX-quantized layers.
    """
    if kind == "cpu":
        return Precision(dtype="float32", dequantize=quantized)
    return Precision(dtype=checkpoint_dtype.rpartition(".")[2], dequantize=False)


def processor_name() -> str:
    """The CPU's model name, as the operating system tells it."""
    if sys.platform == "darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() in {"model name", "Model"}:
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _cpu(info: dict[str, Any]) -> Device:
    memory = machine_memory()
    return Device(
        kind="cpu",
        name=str(info.get("device_name") or processor_name()),
        memory_bytes=memory,
        working_set_bytes=memory * 17 // 20,
        blas=load_blas(),
    )


def _device_info(mx: Any) -> dict[str, Any]:
    """MLX's own facts about the default device; older releases have them under `mx.metal` only."""
    if hasattr(mx, "device_info"):
        return dict(mx.device_info())
    return dict(mx.metal.device_info()) if mx.metal.is_available() else {}


def _number(info: dict[str, Any], key: str) -> int | None:
    value = info.get(key)
    return value if isinstance(value, int) and value > 0 else None


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
