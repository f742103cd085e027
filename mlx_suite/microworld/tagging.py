"""Examples with known tags: instructions and responses with the true label of each question about them.

The texts in `QUESTIONS` are as short as possible, so that a tag costs few tokens. Instructions for which `is_heldout`
is true before they are degraded, and the last phrases of `foreign` and `harmful`, are held out from training.
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
"""The assistant's response to an instruction before questions about it follow."""
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
"""Question and labels by tag name; the labels of a scale start with the lowest."""
_DEGRADED_SHARE = 0.2
"""Share of degraded instructions in the questions that are not about quality."""


@dataclass(frozen=True, kw_only=True)
class Tagged:
    """An instruction, with or without a response, and its known labels."""

    instruction: str
    answer: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    """Label by tag name: about the response if there is one, else about the instruction."""


def sample_tagged(rng: Random, world: World, name: str, *, heldout: bool = False) -> Tagged:
    """Draw an example for the question `name`, with its label uniform except for category and difficulty.

    Both follow the microworld's mixture of tasks; half of the examples for difficulty draw a uniform difficulty first.
    """
    return _SAMPLERS[name](rng, world, heldout)


def _drawn(rng: Random, pool: list[Task], heldout: bool) -> tuple[Task, dict[str, str], str]:
    """Draw a category and a task in it, both uniformly, then slots and an instruction."""
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
    if quality != "very poor":  # too little is left to determine the other labels
        labels |= {"category": task.category, "difficulty": task.difficulty}
    return Tagged(instruction=written, labels=labels)


def _of_the_world(rng: Random, pool: list[Task], heldout: bool) -> Tagged:
    """Draw an instruction of the microworld, sometimes (`_DEGRADED_SHARE`) a degraded one."""
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
