"""How much memory the machine has, how it is written for people, and what MLX may take of it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .backend import import_mlx
from .container import memory_limit
from .heap import keep_freed_blocks

if TYPE_CHECKING:
    from .device import Device

_SMALLEST_CACHE = 256 * 10**6


@dataclass(frozen=True, kw_only=True)
class MemoryLimits:
    """The limits given to MLX."""

    memory_bytes: int
    """Past this MLX waits for running work to free memory before it allocates more."""
    cache_bytes: int
    """Freed buffers that MLX keeps for reuse; past this it gives them back to the system."""


def machine_memory() -> int:
    """Memory of the machine in bytes, cut by the container's limit."""
    physical = _physical_memory()
    limit = memory_limit()
    return min(physical, limit) if limit else physical


def available_memory() -> int:
    """Memory in bytes that can be taken now without pushing other programs out.

    Only Linux tells this cheaply; elsewhere it is the machine's memory.
    """
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return machine_memory()
    kilobytes = next((int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)
    return machine_memory() if kilobytes is None else min(kilobytes * 1024, machine_memory())


def set_limits(device: Device) -> MemoryLimits:
    """Set MLX's memory and cache limits from the device, once, before a job loads a model.

    By default MLX allows 1.5 times the recommended working set on Metal and keeps freed buffers up
    to that size: a long job with rows of many lengths then grows until macOS swaps. An eighth of
    the working set as cache is enough to reuse the buffers of a step. The wired limit stays
    untouched: wired buffers have ended in kernel panics (mlx#3186). On the CPU large freed blocks
    stay in the heap, see `heap`.
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


def human_bytes(count: float) -> str:
    """`count` bytes to three figures in decimal units, as bandwidths are given: "4.52 GB"."""
    size = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if abs(size) < 999.5:
            return f"{size:.0f} B" if unit == "B" else f"{_three_figures(size)} {unit}"
        size /= 1000
    return f"{_three_figures(size)} TB"


def _three_figures(size: float) -> str:
    return f"{size:.{2 if abs(size) < 9.995 else 1 if abs(size) < 99.95 else 0}f}"


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        # macOS releases differ in which names sysconf knows; its own tool always knows the size.
        answer = subprocess.run(["sysctl", "-n", "hw.memsize"], capture_output=True, text=True, check=True)
        return int(answer.stdout)
