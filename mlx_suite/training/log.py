"""The log of a run, metrics.jsonl: a line of JSON for every few steps and every evaluation."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlx_suite.runtime.files import disk_errors, write_atomically

LOG = "metrics.jsonl"


def append_line(run: Path, line: Mapping[str, Any]) -> None:
    """Write a line. Raises UserError where the disk takes no more."""
    log = run / LOG
    with disk_errors(log, kept="The last checkpoint is kept"), log.open("a") as file:
        file.write(json.dumps(line) + "\n")


def cut_log(run: Path, step: int) -> None:
    """Take out the lines of steps behind `step`, which will be done again; at step 0 that is all of them."""
    kept = [line for line in _whole_lines(run / LOG) if step > 0 and _step_of(line) <= step]
    write_atomically(run / LOG, "".join(kept))


def _whole_lines(log: Path) -> list[str]:
    """A kill may have torn the last one."""
    if not log.exists():
        return []
    text = log.read_bytes().decode(errors="replace")
    return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _step_of(line: str) -> float:
    """Infinite for a line that is none of ours, so that it is taken out."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
