"""Workers for `take_turns`, at module level so that spawned processes can import them."""

import os
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_suite.training.process_group import join
from mlx_suite_apps.bench.turns import TurnOrder


def diligent(job: tuple[str, str, int], turns: TurnOrder) -> None:
    """Append its name to a file at each turn and report the number of the turn."""
    name, diary, number = job
    for turn in range(number):
        turns.wait()
        with Path(diary).open("a") as file:
            file.write(name)
        turns.report(turn)


def failing(job: None, turns: TurnOrder) -> None:
    turns.wait()
    raise ValueError("the model has no such layer")


def dying(job: None, turns: TurnOrder) -> None:
    turns.wait()
    os._exit(9)


def summing(job: int, turns: TurnOrder) -> None:
    """Report the sum of rank + 1 over the processes of this worker, one turn per number up to `job`."""
    group = join()
    for _ in range(job):
        turns.wait()
        total: Any = group.all_sum([mx.array(group.rank + 1)])[0].item()
        turns.report((group.rank, total))
