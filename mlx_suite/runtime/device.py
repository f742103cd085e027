"""The compute device, its precision policy, and the memory limits given to MLX."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from .backend import import_mlx
from .blas import Blas, load_blas
from .memory import keep_freed_blocks, machine_memory
from .processor import processor_name

Kind = Literal["metal", "cuda", "cpu"]

_SMALLEST_CACHE = 256 * 10**6
_MOST_STREAMS = 4


@dataclass(frozen=True, kw_only=True)
class Device:
    """The device that MLX computes on."""

    kind: Kind
    name: str
    """The maker's name for it, such as "Apple M4 Max"."""
    memory_bytes: int
    """Memory of the machine (Metal and CPU; capped at the container's limit) or of the card (CUDA)."""
    working_set_bytes: int
    """Memory a program should stay within: beyond it macOS swaps, CUDA fails, Linux kills."""
    blas: Blas | None
    """The BLAS that computes matrix products on the CPU; None on a GPU."""


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Precision in which a checkpoint's weights are loaded."""

    dtype: str
    """MLX dtype name of the dense weights: "float32", "bfloat16" or "float16"."""
    dequantize: bool
    """Whether quantized weights are expanded to `dtype` on loading."""


@dataclass(frozen=True, kw_only=True)
class MemoryLimits:
    """Limits given to MLX, in bytes."""

    memory_bytes: int
    """Beyond this MLX waits for running work to free memory before it allocates more."""
    cache_bytes: int
    """Freed buffers that MLX keeps for reuse; beyond this it returns them to the system."""


def device_kind() -> Kind:
    """`device().kind` alone, at no cost."""
    mx = import_mlx()
    if mx.default_device() == mx.Device(mx.cpu):
        return "cpu"
    if mx.metal.is_available():
        return "metal"
    # The CUDA build is "available" without a card too, but then has no information about one.
    return "cuda" if hasattr(mx, "cuda") and mx.cuda.is_available() and _device_info(mx) else "cpu"


def device() -> Device:
    """MLX's default device: the GPU where there is one, unless the CPU was made the default."""
    kind, info = device_kind(), _device_info(import_mlx())
    if kind == "metal":
        memory = _number(info, "memory_size") or machine_memory()
        return Device(
            kind="metal",
            name=str(info.get("device_name") or processor_name()),
            memory_bytes=memory,
            working_set_bytes=_number(info, "max_recommended_working_set_size") or memory * 2 // 3,
            blas=None,
        )
    if kind == "cuda":
        memory = _number(info, "total_memory") or _number(info, "memory_size") or machine_memory()
        return Device(
            kind="cuda",
            name=str(info.get("device_name") or "NVIDIA GPU"),
            memory_bytes=memory,
            working_set_bytes=memory * 9 // 10,
            blas=None,
        )
    return _cpu(info)


def streams() -> tuple[Any, ...]:
    """Streams that compute at the same time: on a CPU as many as the BLAS has threads, at most four; on a GPU one.

    MLX's CPU backend runs everything but matrix products on one core per stream. The first is None, the current one.
    """
    return _cpu_streams() if device_kind() == "cpu" else (None,)


@cache
def _cpu_streams() -> tuple[Any, ...]:
    mx = import_mlx()
    count = min(_MOST_STREAMS, load_blas().threads or 1)
    return (None, *(mx.new_thread_local_stream(mx.cpu) for _ in range(count - 1)))


def fits(bytes_needed: int) -> bool:
    """Whether this many bytes stay within the default device's working set."""
    return bytes_needed <= device().working_set_bytes


def set_limits(device: Device) -> MemoryLimits:
    """Set MLX's memory and cache limits from the device; call it once, before a model is loaded.

    By default MLX allows 1.5 times the recommended working set on Metal and caches freed buffers up to that size: a
    long job with rows of many lengths grows until macOS swaps. An eighth of the working set as cache is enough to reuse
    the buffers of a step. The wired limit stays at its default: wired buffers have caused kernel panics (mlx#3186). On
    the CPU, large freed blocks stay in the heap (`memory.keep_freed_blocks`).
    """
    working_set_bytes = device.working_set_bytes
    limits = MemoryLimits(
        memory_bytes=working_set_bytes,
        cache_bytes=min(working_set_bytes, max(working_set_bytes // 8, _SMALLEST_CACHE)),
    )
    if device.kind == "cpu":
        keep_freed_blocks()
    mx = import_mlx()
    mx.set_memory_limit(limits.memory_bytes)
    mx.set_cache_limit(limits.cache_bytes)
    return limits


def weights_dtype(kind: Kind, checkpoint_dtype: str, quantized: bool) -> Precision:
    """Precision policy: a GPU keeps the checkpoint's dtype and quantization; the CPU uses dense float32.

    On the CPU, bf16 and quantized products are one to two orders of magnitude slower than a float32 BLAS.

    Args:
        kind: `Device.kind`.
        checkpoint_dtype: dtype of the checkpoint's dense tensors ("bfloat16" or "torch.bfloat16").
        quantized: Whether the checkpoint has MLX-quantized layers.
    """
    if kind == "cpu":
        return Precision(dtype="float32", dequantize=quantized)
    return Precision(dtype=checkpoint_dtype.rpartition(".")[2], dequantize=False)


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
    """MLX's information about the default device; older releases have it under `mx.metal` only."""
    if hasattr(mx, "device_info"):
        return dict(mx.device_info())
    return dict(mx.metal.device_info()) if mx.metal.is_available() else {}


def _number(info: dict[str, Any], key: str) -> int | None:
    value = info.get(key)
    return value if isinstance(value, int) and value > 0 else None
