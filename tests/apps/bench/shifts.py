"""Work for `take_turns`: functions of a module, for another process has to find them."""

import os
from pathlib import Path

from mlx_suite_apps.bench.turns import Turns


def diligent(job: tuple[str, str, int], turns: Turns) -> None:
    """Notes its name in a file at each turn and reports the number of the turn."""
    name, diary, number = job
    for turn in range(number):
        turns.wait()
        with Path(diary).open("a") as file:
            file.write(name)
        turns.report(turn)


def failing(job: None, turns: Turns) -> None:
    turns.wait()
    raise ValueError("the model has no such layer")


def dying(job: None, turns: Turns) -> None:
    turns.wait()
    os._exit(9)
