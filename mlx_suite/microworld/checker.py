"""Decides from the text of an instruction alone whether an answer to it is right."""

from enum import Enum

from .task import Task
from .tasks import TASKS
from .world import World


class Verdict(Enum):
    """UNKNOWN: the instruction is not one of the world's tasks."""

    RIGHT = "right"
    WRONG = "wrong"
    UNKNOWN = "unknown"


def identify(instruction: str) -> tuple[Task, dict[str, str]] | None:
    """The task and slots of an instruction, or None where no phrasing fits it exactly."""
    text = instruction.strip()
    for task in TASKS:
        slots = task.parse(text)
        if slots is not None:
            return task, slots
    return None


def check(instruction: str, answer: str, world: World) -> Verdict:
    """Whether the answer is complete and right in this world."""
    found = identify(instruction)
    if found is None:
        return Verdict.UNKNOWN
    task, slots = found
    return Verdict.RIGHT if task.judge(slots, answer, world) else Verdict.WRONG
