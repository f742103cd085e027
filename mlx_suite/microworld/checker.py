"""Checker: whether a response is correct, decided from the text of its instruction."""

from enum import Enum

from .task import Task
from .tasks import TASKS
from .world import World


class Verdict(Enum):
    """Verdict on a response. UNKNOWN: the instruction is not from one of the world's tasks."""

    RIGHT = "right"
    WRONG = "wrong"
    UNKNOWN = "unknown"


def identify(instruction: str) -> tuple[Task, dict[str, str]] | None:
    """The task and slots of an instruction; None if it matches no phrasing exactly."""
    text = instruction.strip()
    for task in TASKS:
        slots = task.parse(text)
        if slots is not None:
            return task, slots
    return None


def check(instruction: str, answer: str, world: World) -> Verdict:
    """Whether the response is complete and correct in this world."""
    found = identify(instruction)
    if found is None:
        return Verdict.UNKNOWN
    task, slots = found
    return Verdict.RIGHT if task.judge(slots, answer, world) else Verdict.WRONG
