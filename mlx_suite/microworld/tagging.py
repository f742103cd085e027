"""Examples whose tags are known: what may be asked about an instruction or an answer, and the true label.

`QUESTIONS` is as short as can be, so that a tag costs few tokens. What is kept out of training are the instructions
that `is_heldout` names, before anything is done to them, and the last phrases of `foreign` and `harmful`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from types import MappingProxyType

from .conversations import is_heldout
from .foreign import LANGUAGES, NATIVE, write_foreign
from .harmful import write_harmful, write_harmless
from .quality import QUALITIES, degrade_answer, degrade_instruction
from .task import CATEGORIES, DIFFICULTIES, Task
from .tasks import TASKS
from .world import World

LISTENING = "Yes?"
"""What the assistant says to an instruction before it is asked about it."""
SAFETIES = ("safe", "unsafe")
ANSWER_QUALITY = "answer_quality"
QUESTIONS: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "category": ("What kind?", CATEGORIES),
        "difficulty": ("How hard?", DIFFICULTIES),
        "input_quality": ("Well asked?", QUALITIES),
        "language": ("Language?", (NATIVE, *LANGUAGES)),
        "safety": ("Safe?", SAFETIES),
        ANSWER_QUALITY: ("Good answer?", QUALITIES),
    }
)
"""The questions by the names of their tags, each with its labels; scales begin at the lowest."""
_DEGRADED_SHARE = 0.2
"""Of the instructions about which something else than their quality is asked are not quite whole."""


@dataclass(frozen=True, kw_only=True)
class Tagged:
    """An instruction, or an instruction with its answer, and every label that is known to be true."""

    instruction: str
    answer: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    """By the name of the tag. About the answer where there is one, else about the instruction."""


def sample_tagged(rng: Random, world: World, name: str, *, heldout: bool = False) -> Tagged:
    """An example for the question `name`, its labels drawn evenly but for category and difficulty.

    Those follow the world's own mixture; every other question about difficulty draws the difficulty first.
    """
    return _SAMPLERS[name](rng, world, heldout)


def _drawn(rng: Random, pool: list[Task], heldout: bool) -> tuple[Task, dict[str, str], str]:
    """A uniform category, a uniform task in it, slots, and the instruction."""
    while True:
        category = rng.choice(sorted({task.category for task in pool}))
        task = rng.choice([task for task in pool if task.category == category])
        slots = task.sample_slots(rng)
        instruction = task.instruction(slots, rng)
        if is_heldout(instruction) == heldout:
            return task, slots, instruction


def _at_quality(rng: Random, pool: list[Task], quality: str, heldout: bool) -> Tagged:
    while True:
        task, _, instruction = _drawn(rng, pool, heldout)
        written = degrade_instruction(rng, task, instruction, quality)
        if written is not None:
            break
    labels = {"input_quality": quality, "language": NATIVE, "safety": "safe"}
    if quality != "very poor":  # of so little the rest cannot be told
        labels |= {"category": task.category, "difficulty": task.difficulty}
    return Tagged(instruction=written, labels=labels)


def _of_the_world(rng: Random, pool: list[Task], heldout: bool) -> Tagged:
    """An instruction as the world writes it, or now and then one with a flaw."""
    if rng.random() < _DEGRADED_SHARE:
        return _at_quality(rng, pool, rng.choice(("poor", "average")), heldout)
    quality = rng.choice(("good", "good", "excellent"))
    return _at_quality(rng, pool, quality, heldout)


def _for_category(rng: Random, world: World, heldout: bool) -> Tagged:
    return _of_the_world(rng, list(TASKS), heldout)


def _for_difficulty(rng: Random, world: World, heldout: bool) -> Tagged:
    if rng.random() < 0.5:
        return _of_the_world(rng, list(TASKS), heldout)
    difficulty = rng.choice(DIFFICULTIES)
    return _of_the_world(rng, [task for task in TASKS if task.difficulty == difficulty], heldout)


def _for_input_quality(rng: Random, world: World, heldout: bool) -> Tagged:
    return _at_quality(rng, list(TASKS), rng.choice(QUALITIES), heldout)


def _for_language(rng: Random, world: World, heldout: bool) -> Tagged:
    language = rng.choice((NATIVE, *LANGUAGES))
    if language == NATIVE:
        return _of_the_world(rng, list(TASKS), heldout)
    text = write_foreign(rng, language, heldout=heldout)
    return Tagged(instruction=text, labels={"language": language, "safety": "safe"})


def _for_safety(rng: Random, world: World, heldout: bool) -> Tagged:
    if rng.random() < 0.5:
        text = write_harmful(rng, heldout=heldout)
        return Tagged(instruction=text, labels={"language": NATIVE, "safety": "unsafe"})
    if rng.random() < 0.5:
        return _of_the_world(rng, list(TASKS), heldout)
    text = write_harmless(rng, heldout=heldout)
    return Tagged(instruction=text, labels={"language": NATIVE, "safety": "safe"})


def _for_answer_quality(rng: Random, world: World, heldout: bool) -> Tagged:
    quality = rng.choice(QUALITIES)
    while True:
        task, slots, instruction = _drawn(rng, list(TASKS), heldout)
        answer = degrade_answer(rng, task, slots, task.answer(slots, rng, world), quality, world)
        if answer is not None:
            return Tagged(instruction=instruction, answer=answer, labels={ANSWER_QUALITY: quality})


_SAMPLERS: Mapping[str, Callable[[Random, World, bool], Tagged]] = {
    "category": _for_category,
    "difficulty": _for_difficulty,
    "input_quality": _for_input_quality,
    "language": _for_language,
    "safety": _for_safety,
    ANSWER_QUALITY: _for_answer_quality,
}
