"""The machine: device policy, memory, atomic files, journals, errors. MLX is imported only to compute.

Not exported: `device.device()`, which would hide its module, and `progress.Progress`, which imports rich.
"""

from .backend import explain_import_error, import_mlx
from .blas import Blas, load_blas
from .device import Device, MemoryLimits, Precision, set_limits, weights_dtype
from .errors import UserError
from .files import disk_errors, replace_folder, staged_folder, write_atomically
from .footprint import (
    bytes_read_per_token,
    cache_bytes,
    kv_bytes_per_token,
    parameter_count,
    weight_bytes,
)
from .journal import Journal, read_journal
from .lock import folder_lock
from .memory import available_memory, human_bytes, machine_memory

__all__ = [
    "Blas",
    "Device",
    "Journal",
    "MemoryLimits",
    "Precision",
    "UserError",
    "available_memory",
    "bytes_read_per_token",
    "cache_bytes",
    "disk_errors",
    "explain_import_error",
    "folder_lock",
    "human_bytes",
    "import_mlx",
    "kv_bytes_per_token",
    "load_blas",
    "machine_memory",
    "parameter_count",
    "read_journal",
    "replace_folder",
    "set_limits",
    "staged_folder",
    "weight_bytes",
    "weights_dtype",
    "write_atomically",
]
