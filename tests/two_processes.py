"""Two data-parallel processes, as `mlx.launch -n 2` starts them."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
SECONDS = 180
"""Seconds after which a process usually counts as hanging."""


def run_two_processes(
    program: str, arguments: Sequence[Sequence[object]], folder: Path, seconds: float = SECONDS
) -> None:
    """Run a program with the arguments of each rank until both end, and assert that neither fails."""
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("127.0.0.1", 0))
        hosts = [[f"127.0.0.1:{each.getsockname()[1]}"] for each in (first, second)]
    (folder / "hosts.json").write_text(json.dumps(hosts))
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program, *map(str, given)],
            cwd=REPOSITORY,
            env=os.environ | {"MLX_HOSTFILE": str(folder / "hosts.json"), "MLX_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, given in enumerate(arguments)
    ]
    try:
        said = [child.communicate(timeout=seconds)[1] for child in children]
    finally:
        for child in children:
            child.kill()
    assert [child.returncode for child in children] == [0, 0], said
