"""Random examples and conversations; a fixed share of the instructions is held out of training."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from .task import CATEGORIES, Task
from .tasks import TASKS
from .world import World, make_world

HELDOUT_ONE_IN = 20
TWO_TURN_SHARE = 0.15


@dataclass(frozen=True, kw_only=True)
class WorldExample:
    """One instruction with a right answer."""

    task: str
    category: str
    difficulty: str
    instruction: str
    answer: str


def is_heldout(instruction: str) -> bool:
    """Whether the instruction is one of the 5 % held out of training; the choice never changes."""
    digest = hashlib.sha1(instruction.strip().encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[:8], "big") % HELDOUT_ONE_IN == 0


def sample_example(rng: Random, world: World, tasks: Sequence[Task] | None = None) -> WorldExample:
    """An example with a uniform category, a uniform task in it, then random slots, phrasing and wording."""
    pool = TASKS if tasks is None else tasks
    present = [category for category in CATEGORIES if any(t.category == category for t in pool)]
    category = rng.choice(present)
    task = rng.choice([each for each in pool if each.category == category])
    slots = task.sample_slots(rng)
    return WorldExample(
        task=task.name,
        category=category,
        difficulty=task.difficulty,
        instruction=task.instruction(slots, rng),
        answer=task.answer(slots, rng, world),
    )


def sample_conversation(rng: Random, world: World) -> list[WorldExample]:
    """A conversation of one turn, or, in 15 % of cases, two independent ones."""
    turns = 2 if rng.random() < TWO_TURN_SHARE else 1
    return [sample_example(rng, world) for _ in range(turns)]


def training_conversations(seed: int, world: World | None = None) -> Iterator[list[WorldExample]]:
    """Endless conversations without any held-out instruction."""
    rng = Random(f"training {seed}")
    world = make_world() if world is None else world
    while True:
        conversation = sample_conversation(rng, world)
        if not any(is_heldout(turn.instruction) for turn in conversation):
            yield conversation


def heldout_examples(seed: int, n: int, world: World | None = None) -> list[WorldExample]:
    """`n` examples with distinct held-out instructions."""
    rng = Random(f"heldout {seed}")
    world = make_world() if world is None else world
    found: dict[str, WorldExample] = {}
    while len(found) < n:
        example = sample_example(rng, world)
        if is_heldout(example.instruction):
            found.setdefault(example.instruction, example)
    return list(found.values())
