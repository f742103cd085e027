"""A run with several workers, started as by `mlx.launch`; each can send itself a signal."""

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

SECONDS = 120
"""Timeout of a process, in seconds."""
REPOSITORY = Path(__file__).parents[2]
CHILD = """
import json, os, sys
from dataclasses import replace
from pathlib import Path
from mlx_suite.magpie.run import follow_dataset, make_dataset
from mlx_suite.magpie.workers import ElsewhereError
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.journal import Journal
from mlx_suite.training.process_group import join
from tests.magpie.conftest import QUESTIONS, load_checkpoint

given = json.loads(sys.argv[3])
number, name, lines = given.pop("signal", (0, "", 0))
appended = []
append = Journal.append

def counted(journal, record):
    append(journal, record)
    if journal.path.name == name:
        appended.append(record)
        if len(appended) == lines:
            os.kill(os.getpid(), number)

Journal.append = counted
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
    """The workers of one run, by rank.

    Args:
        each: Settings of each rank that differ from `settings`. `signal` is what the rank sends itself, and when: a
            signal, a file, and the number of lines appended to it.
    """

    def __init__(self, checkpoint: Path, folder: Path, size: int, /, *each: dict[str, Any], **settings: Any) -> None:
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


def complete(checkpoint: Path, folder: Path, size: int, **settings: Any) -> None:
    """Run to the end without errors."""
    results = Run(checkpoint, folder, size, **settings).ended()
    assert results == [(0, "")] * size, results
