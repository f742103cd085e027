"""The processor's name, as the operating system reports it."""

from __future__ import annotations

import sys
from pathlib import Path


def processor_name() -> str:
    """The CPU's model name."""
    import platform

    if sys.platform == "darwin":
        return _brand() or platform.processor()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() in {"model name", "Model"}:
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _brand() -> str:
    import subprocess

    command = ("sysctl", "-n", "machdep.cpu.brand_string")
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
