"""The log of a run, metrics.jsonl: a line of JSON for every few steps and every evaluation."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlx_suite.runtime.files import disk_errors, write_atomically
from mlx_suite.runtime.journal import read_lines

LOG = "metrics.jsonl"


def append_line(run: Path, line: Mapping[str, Any]) -> None:
    """Write a line. Raises UserError where the disk takes no more."""
    log = run / LOG
    with disk_errors(log, kept="The last checkpoint is kept"), log.open("a") as file:
        file.write(json.dumps(line) + "\n")


def cut_log(run: Path, step: int) -> None:
    """Take out the lines of steps behind `step`, which will be done again; at step 0 that is all of them."""
    log = run / LOG
    lines = read_lines(log, lambda line: (float(line["step"]), line), bad=[]) if log.exists() else ()
    kept = [line for at, line in lines if 0 < step and at <= step]
    write_atomically(log, "".join(json.dumps(line) + "\n" for line in kept))
