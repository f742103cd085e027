"""A small world with known facts, and instruction tasks whose responses can be checked."""

from .biography import write_biography, write_place
from .checker import Verdict, check, identify
from .conversations import (
    WorldExample,
    heldout_examples,
    is_heldout,
    sample_conversation,
    sample_example,
    training_conversations,
)
from .task import CATEGORIES, DIFFICULTIES, Task
from .tasks import TASKS
from .world import Person, Place, World, make_world

__all__ = [
    "CATEGORIES",
    "DIFFICULTIES",
    "TASKS",
    "WorldExample",
    "Person",
    "Place",
    "Task",
    "Verdict",
    "World",
    "check",
    "heldout_examples",
    "identify",
    "is_heldout",
    "make_world",
    "sample_conversation",
    "sample_example",
    "training_conversations",
    "write_biography",
    "write_place",
]
