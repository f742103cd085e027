"""A run with several workers, started as by `mlx.launch`; each can be killed."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mlx_suite.magpie.shards import BOARD_FILE

SECONDS = 120
"""Timeout of a process, in seconds."""
REPOSITORY = Path(__file__).parents[2]
CHILD = """
import json, sys
from dataclasses import replace
from pathlib import Path
from mlx_suite.magpie import make_dataset
from mlx_suite.magpie.followers import follow_dataset
from mlx_suite.magpie.shards import ElsewhereError
from mlx_suite.runtime.errors import UserError
from mlx_suite.training.process_group import join
from tests.magpie.conftest import QUESTIONS, load_checkpoint

given = json.loads(sys.argv[3])
settings = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
loaded = load_checkpoint(Path(sys.argv[1]))
group = replace(join(), patience=60.0)
arguments = loaded.model, loaded.tokenizer, loaded.template, loaded.settings(**settings), sys.argv[2]
try:
    if group.is_rank_zero:
        make_dataset(*arguments, questions=QUESTIONS, group=group)
    else:
        follow_dataset(*arguments, questions=QUESTIONS, group=group)
except UserError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
except ElsewhereError:
    sys.exit(2)
except KeyboardInterrupt:
    sys.exit(130)
"""


class Run:
    """The workers of one run, by rank."""

    def __init__(self, checkpoint: Path, folder: Path, size: int, /, *each: dict[str, Any], **settings: Any) -> None:
        self.folder = folder
        self._before = self._board()
        with ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(size)]
            for one in sockets:
                one.bind(("127.0.0.1", 0))
            hosts = [[f"127.0.0.1:{one.getsockname()[1]}"] for one in sockets]
        folder.parent.mkdir(exist_ok=True, parents=True)
        hostfile = folder.parent / f"{folder.name}-hosts.json"
        # MLX refuses a ring of one.
        hostfile.write_text(json.dumps(hosts) if size > 1 else "")
        self.children = [
            subprocess.Popen(
                [sys.executable, "-c", CHILD, str(checkpoint), str(folder), json.dumps(settings | own)],
                cwd=REPOSITORY,
                env=os.environ | {"MLX_HOSTFILE": str(hostfile), "MLX_RANK": str(rank)},
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank, own in enumerate([*each, *[{}] * (size - len(each))])
        ]

    def ended(self) -> list[tuple[int, str]]:
        """Exit code and stderr of each process. One that hangs is killed and fails the test."""
        try:
            stderr = [child.communicate(timeout=SECONDS)[1] for child in self.children]
            return [(child.returncode, text) for child, text in zip(self.children, stderr, strict=True)]
        finally:
            for child in self.children:
                child.kill()
                child.wait()

    def when(self, name: str, lines: int, act: Callable[[], None]) -> None:
        """Call `act` once the run has started and a file has this many lines; fail if it ends before that."""
        path, end = self.folder / name, time.monotonic() + SECONDS
        while self._board() == self._before or not path.exists() or path.read_bytes().count(b"\n") < lines:
            if time.monotonic() > end or any(child.poll() is not None for child in self.children):
                raise AssertionError(self.ended())
            time.sleep(0.01)
        act()

    def _board(self) -> bytes:
        path = self.folder / BOARD_FILE
        return path.read_bytes() if path.exists() else b""


def complete(checkpoint: Path, folder: Path, size: int, **settings: Any) -> None:
    """Run to the end without errors."""
    results = Run(checkpoint, folder, size, **settings).ended()
    assert results == [(0, "")] * size, results
