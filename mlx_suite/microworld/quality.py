"""Instructions and responses degraded in known ways, so that their quality is known.

quality      instruction                                     response
excellent    complete, after an opening sentence             right
good         complete                                        right, with one word misspelt
average      with two or three words misspelt                right, but truncated
poor         without the value of one slot                   wrong: it answers another question of the task
very poor    shuffled, or cut off halfway                    off-topic, or shuffled
"""

import re
from collections.abc import Callable, Mapping
from random import Random

from .checker import identify
from .task import Task
from .tasks import TASKS
from .world import World

QUALITIES = ("very poor", "poor", "average", "good", "excellent")
MISSPELT_ON_PURPOSE = ("fix_spelling",)
"""Tasks whose instructions contain a misspelt word anyway; they are not degraded by misspellings."""
_ENOUGH_WORDS = 4
_TRIES = 20


def degrade_instruction(rng: Random, task: Task, instruction: str, quality: str) -> str | None:
    """`instruction` of `task` degraded to `quality`; None if that is not possible."""
    if quality in ("good", "excellent"):
        return instruction if (opening_of(task, instruction) != "") == (quality == "excellent") else None
    opening = opening_of(task, instruction)
    body = instruction.removeprefix(opening)
    worse = _WORSE_INSTRUCTIONS[quality](rng, task, body)
    if worse is None or identify(worse) is not None or identify(opening + worse) is not None:
        return None
    return opening + worse


def opening_of(task: Task, instruction: str) -> str:
    """The opening sentence with the space after it; empty if there is none."""
    return next((f"{each} " for each in task.openings if instruction.startswith(f"{each} ")), "")


def degrade_answer(
    rng: Random, task: Task, slots: Mapping[str, str], answer: str, quality: str, world: World
) -> str | None:
    """A correct `answer` to `slots` of `task` degraded to `quality`; None if that is not possible."""
    if quality == "excellent":
        return answer
    if quality == "poor":
        return _wrong(rng, task, slots, world)
    if quality == "very poor" and rng.random() < 0.5:
        return _off_topic(rng, task, world)
    worse = {
        "good": lambda: misspelt(rng, answer, 1),
        "average": lambda: _cut_off(rng, answer, 0.35, 0.75),
        "very poor": lambda: _disordered(rng, answer),
    }[quality]()
    return None if worse is None or task.judge(slots, worse, world) else worse


def misspelt(rng: Random, text: str, count: int) -> str | None:
    """The text with a typing error in `count` words of four letters or more; None if it has fewer such words."""
    places = [match for match in re.finditer(r"[A-Za-z]{4,}", text)]
    if len(places) < count:
        return None
    for match in sorted(rng.sample(places, count), key=lambda each: -each.start()):
        text = f"{text[: match.start()]}{_slip(rng, match[0])}{text[match.end() :]}"
    return text


def _slip(rng: Random, word: str) -> str:
    """A word with two letters swapped, one dropped or one doubled; the first letter stays."""
    while True:
        at = rng.randrange(1, len(word) - 1)
        slipped = rng.choice(
            (
                f"{word[:at]}{word[at + 1]}{word[at]}{word[at + 2 :]}",
                f"{word[:at]}{word[at + 1 :]}",
                f"{word[: at + 1]}{word[at:]}",
            )
        )
        if slipped != word:
            return slipped


def _misspelt_body(rng: Random, task: Task, body: str) -> str | None:
    return None if task.name in MISSPELT_ON_PURPOSE else misspelt(rng, body, rng.choice((2, 3)))


def _without_a_word(rng: Random, task: Task, body: str) -> str | None:
    """The instruction without the value of one of its slots."""
    match = next((found for each in task.compiled if (found := each.pattern.fullmatch(body))), None)
    if match is None or not match.groups():
        return None
    start, end = match.span(rng.randint(1, len(match.groups())))
    text = f"{body[:start]}{body[end:]}"
    return re.sub(r" +([.,?!])", r"\1", re.sub(r" {2,}", " ", text)).strip()


def _in_pieces(rng: Random, task: Task, body: str) -> str | None:
    return _disordered(rng, body) if rng.random() < 0.5 else _cut_off(rng, body, 0.2, 0.55)


def _disordered(rng: Random, text: str) -> str | None:
    words = text.split()
    if len(words) < _ENOUGH_WORDS:
        return None
    mixed = rng.sample(words, len(words))
    return None if mixed == words else " ".join(mixed)


def _cut_off(rng: Random, text: str, least: float, most: float) -> str | None:
    """Keep a random share of the words, from `least` to `most`, at least one and not all."""
    ends = [match.end() for match in re.finditer(r"\S+", text)]
    if len(ends) < _ENOUGH_WORDS:
        return None
    kept = max(1, min(len(ends) - 1, round(rng.uniform(least, most) * len(ends))))
    return text[: ends[kept - 1]].rstrip(".,!?")


_WORSE_INSTRUCTIONS: Mapping[str, Callable[[Random, Task, str], str | None]] = {
    "average": _misspelt_body,
    "poor": _without_a_word,
    "very poor": _in_pieces,
}


def _wrong(rng: Random, task: Task, slots: Mapping[str, str], world: World) -> str | None:
    """A correct answer to other slots, half of the time with the original slots' words, which gives a false fact."""
    for _ in range(_TRIES):
        other = task.sample_slots(rng)
        mixed = {name: value if rng.random() < 0.5 else other[name] for name, value in slots.items()}
        if task.valid(mixed):
            other = mixed
        answer = task.answer(other, rng, world)
        if rng.random() < 0.5:
            for name, value in slots.items():
                answer = re.sub(rf"\b{re.escape(other[name])}\b", value.replace("\\", r"\\"), answer)
        if not task.judge(slots, answer, world):
            return answer
    return None


def _off_topic(rng: Random, task: Task, world: World) -> str:
    other = rng.choice([each for each in TASKS if each.category != task.category])
    return other.answer(other.sample_slots(rng), rng, world)
