"""What the container or batch system lets this process have: cores and memory.

A machine may show 64 cores and 512 GB while the cgroup of the process allows 2 and 4. A BLAS that
starts 64 threads there is slower than one thread, and a cache sized from 512 GB is killed. Both
cgroup versions are read; a limit that is not set, and any file that cannot be read, counts as no
limit.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
PROC_CGROUP = Path("/proc/self/cgroup")
# cgroup v1 writes "no limit" as the largest multiple of the page size; anything near it is not a
# limit.
_NO_LIMIT_BYTES = 1 << 60


def usable_cores() -> int:
    """Cores this process may run on: the affinity mask, cut by the cgroup's CPU quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else (os.cpu_count() or 1)
    quota = cpu_quota()
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def processes_here() -> int:
    """How many processes of one `mlx.launch` run on this machine, this one among them; 1 without the launcher.

    It gives each process its number and the file of all addresses: a list of `host:port` for every process.
    """
    try:
        hosts = [at[0].rpartition(":")[0] for at in json.loads(Path(os.environ["MLX_HOSTFILE"]).read_text())]
        return max(1, hosts.count(hosts[int(os.environ["MLX_RANK"])]))
    except (KeyError, OSError, ValueError, LookupError, TypeError, AttributeError):
        return 1


def cpu_quota() -> float | None:
    """The tightest CPU quota on the way up the cgroup tree, in cores; None without one."""
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
    """The tightest memory limit on the way up the cgroup tree, in bytes; None without one."""
    files = [folder / "memory.max" for folder in _folders("")]
    files += [folder / "memory.limit_in_bytes" for folder in _folders("memory")]
    limits = [limit for file in files if (limit := _number(file)) and 0 < limit < _NO_LIMIT_BYTES]
    return min(limits, default=None)


def _folders(controller: str) -> Iterator[Path]:
    """Folders of this process's cgroup, from its own up to the root; `controller` "" is version 2.

    Inside a container the path in /proc often belongs to the host and does not exist here: the
    root, which the container sees as its own group, is always among the answers.
    """
    root = CGROUP_ROOT / controller if controller else CGROUP_ROOT
    for line in _lines(PROC_CGROUP):
        # "hierarchy:controllers:path", for instance "4:memory:/batch/7" or, in version 2,
        # "0::/user.slice"
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
