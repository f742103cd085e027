"""glibc's heap on Linux: keep large freed blocks instead of returning each to the kernel.

MLX's CPU backend allocates every array above its small cache with malloc, and glibc maps and unmaps
each block above 32 MB: the kernel then zeroes all of its pages again. With the blocks kept in the
heap an elementwise operation on a 64 MB array ran 3.7 times faster, and a training step (batch
8x256, 4096 words) took 16 and 20 % less time at 5 % more peak memory (best of six steps, twice, on
2 shared cores with mlx 0.32.4).
"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD = -1
_MMAP_MAX = -4
_NEVER = 2**31 - 1


def keep_freed_blocks() -> bool:
    """Ask glibc to serve large blocks from the heap and keep it grown; False without glibc."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _NEVER))
