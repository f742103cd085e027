"""Cores and memory that the container or batch system allows this process.

A machine may have 64 cores and 512 GB while the process's cgroup allows 2 cores and 4 GB. A BLAS with 64 threads is
slower there than with one, and a cache sized for 512 GB gets the process killed. Both cgroup versions are supported;
unset limits and unreadable files count as no limit.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
PROC_CGROUP = Path("/proc/self/cgroup")
# cgroup v1 writes "no limit" as the largest multiple of the page size.
_NO_LIMIT_BYTES = 1 << 60


def usable_cores() -> int:
    """Cores this process may use: those of the affinity mask, capped at the cgroup's CPU quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else (os.cpu_count() or 1)
    quota = cpu_quota()
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


PROCESSES = "MLX_SUITE_PROCESSES"
"""Variable with the number of processes that share this machine's cores, set for processes that we start."""


def processes_here() -> int:
    """Processes that share this machine's cores with this one, including it.

    They are those of this `mlx.launch` job, which passes each process its rank and a file with a list of `host:port`
    for every rank, or as many as the variable `PROCESSES` says.
    """
    if (told := os.environ.get(PROCESSES, "")).isdigit():
        return max(1, int(told))
    try:
        hosts = [at[0].rpartition(":")[0] for at in json.loads(Path(os.environ["MLX_HOSTFILE"]).read_text())]
        return max(1, hosts.count(hosts[int(os.environ["MLX_RANK"])]))
    except (KeyError, OSError, ValueError, LookupError, TypeError, AttributeError):
        return 1


def cpu_quota() -> float | None:
    """The lowest CPU quota of the cgroup and its parents, in cores; None without one."""
    quotas = []
    for folder in _folders(""):
        words = _words(folder / "cpu.max")
        if len(words) == 2 and words[0].isdigit():
            quotas.append(int(words[0]) / int(words[1]))
    for folder in _folders("cpu"):
        quota, period = (_number(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        if quota and period and quota > 0:
            quotas.append(quota / period)
    return min(quotas, default=None)


def memory_limit() -> int | None:
    """The lowest memory limit of the cgroup and its parents, in bytes; None without one."""
    files = [folder / "memory.max" for folder in _folders("")]
    files += [folder / "memory.limit_in_bytes" for folder in _folders("memory")]
    limits = [limit for file in files if (limit := _number(file)) and 0 < limit < _NO_LIMIT_BYTES]
    return min(limits, default=None)


def _folders(controller: str) -> Iterator[Path]:
    """Folders of this process's cgroup, from its own up to the root; `controller` "" means version 2.

    Inside a container the path in /proc is often the host's and does not exist. The root, which is the container's own
    group, is always included.
    """
    root = CGROUP_ROOT / controller if controller else CGROUP_ROOT
    for line in _lines(PROC_CGROUP):
        # "hierarchy:controllers:path", such as "4:memory:/batch/7", or "0::/user.slice" in version 2
        _, names, path = (line.split(":", 2) + ["", ""])[:3]
        if controller in names.split(","):
            relative = Path(path.lstrip("/"))
            yield from (root / step for step in (relative, *relative.parents))
            return
    yield root


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _words(file: Path) -> list[str]:
    return " ".join(_lines(file)).split()


def _number(file: Path) -> int | None:
    words = _words(file)
    return int(words[0]) if words and words[0].lstrip("-").isdigit() else None
