"""All task families of the microworld, one module per category."""

from ..task import Task
from . import (
    advice,
    arithmetic,
    coding,
    editing,
    ideas,
    information,
    others,
    planning,
    reasoning,
    roleplay,
    tables,
    writing,
)

TASKS: tuple[Task, ...] = (
    *information.TASKS,
    *reasoning.TASKS,
    *planning.TASKS,
    *editing.TASKS,
    *coding.TASKS,
    *arithmetic.TASKS,
    *roleplay.TASKS,
    *tables.TASKS,
    *writing.TASKS,
    *advice.TASKS,
    *ideas.TASKS,
    *others.TASKS,
)
