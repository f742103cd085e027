"""Tasks: phrasings with slots, which write and recognise instructions, and a check of responses.

A phrasing such as ``"What is {a} plus {b}?"`` is filled from closed lists and compiles, with the
same lists, to an anchored pattern. ``{noun:plural}`` writes a slot's word in one of the forms of
`lexicon.FORMS` and reads it back.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from .lexicon import FORMS
from .world import World

CATEGORIES = (
    "Information seeking",
    "Reasoning",
    "Planning",
    "Editing",
    "Coding & Debugging",
    "Math",
    "Role playing",
    "Data analysis",
    "Creative writing",
    "Advice seeking",
    "Brainstorming",
    "Others",
)
DIFFICULTIES = ("very easy", "easy", "medium", "hard", "very hard")
OPENING_SHARE = 0.35

Slots = Mapping[str, str]
_FIELD = re.compile(r"\{(\w+)(?::(\w+))?\}")


@dataclass(frozen=True, kw_only=True)
class Answering:
    """Writes and recognises correct answers."""

    write: Callable[[Slots, Random, World], str]
    judge: Callable[[Slots, str, World], bool]


def one_of(answers: Callable[[Slots, World], Sequence[str]]) -> Answering:
    """Answers from an enumerable set: exactly the listed answers are correct."""
    return Answering(
        write=lambda slots, rng, world: rng.choice(answers(slots, world)),
        judge=lambda slots, answer, world: answer in answers(slots, world),
    )


@dataclass(frozen=True)
class Phrasing:
    """One template, its pattern, and a literal that every instruction of it contains."""

    template: str
    pattern: re.Pattern[str]
    anchor: str
    readers: tuple[tuple[str, Mapping[str, str]], ...]

    @staticmethod
    def compile(template: str, slots: Mapping[str, Sequence[str]], openings: Sequence[str]) -> "Phrasing":
        """Build the pattern. Raises ValueError if the template does not use exactly the slots."""
        used = {name for name, _ in _FIELD.findall(template)}
        if used != set(slots):
            raise ValueError(f"phrasing {template!r} uses {sorted(used)}, not {sorted(slots)}")
        pattern, literals, readers, end = "", [], [], 0
        for found in _FIELD.finditer(template):
            name, form = found[1], found[2]
            write = FORMS[form] if form else str
            words = {write(value): value for value in slots[name]}
            if len(words) != len(slots[name]):
                raise ValueError(f"form {form!r} of slot {name!r} cannot be read back")
            literals.append(template[end : found.start()])
            alternatives = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
            pattern += f"{re.escape(literals[-1])}({alternatives})"
            readers.append((name, words))
            end = found.end()
        literals.append(template[end:])
        pattern += re.escape(literals[-1])
        if openings:
            pattern = f"(?:(?:{'|'.join(map(re.escape, openings))}) )?{pattern}"
        return Phrasing(template, re.compile(pattern), max(literals, key=len), tuple(readers))

    def render(self, slots: Slots) -> str:
        """The instruction, without an opening."""

        def written(found: re.Match[str]) -> str:
            word = slots[found[1]]
            return FORMS[found[2]](word) if found[2] else word

        return _FIELD.sub(written, self.template)

    def parse(self, text: str) -> dict[str, str] | None:
        """The slots; None if the text does not match this phrasing."""
        if self.anchor not in text:
            return None
        match = self.pattern.fullmatch(text)
        if match is None:
            return None
        slots: dict[str, str] = {}
        for (name, words), written in zip(self.readers, match.groups(), strict=True):
            if slots.setdefault(name, words[written]) != words[written]:
                return None
        return slots


@dataclass(frozen=True, kw_only=True)
class Task:
    """One family of instructions; `openings` are sentences that may precede any phrasing."""

    name: str
    category: str
    difficulty: str
    slots: Mapping[str, Sequence[str]]
    phrasings: tuple[str, ...]
    answering: Answering
    openings: tuple[str, ...] = ()
    valid: Callable[[Slots], bool] = lambda slots: True
    sampler: Callable[[Random], dict[str, str]] | None = None
    compiled: tuple[Phrasing, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.category not in CATEGORIES or self.difficulty not in DIFFICULTIES:
            raise ValueError(f"{self.name}: unknown {self.category!r} or {self.difficulty!r}")
        object.__setattr__(
            self,
            "compiled",
            tuple(Phrasing.compile(each, self.slots, self.openings) for each in self.phrasings),
        )

    def sample_slots(self, rng: Random) -> dict[str, str]:
        """Valid slots, from the task's sampler or uniform over the valid combinations."""
        while True:
            if self.sampler is not None:
                slots = self.sampler(rng)
            else:
                slots = {name: rng.choice(values) for name, values in self.slots.items()}
            if self.valid(slots):
                return slots

    def instruction(self, slots: Slots, rng: Random) -> str:
        """The slots in a random phrasing, sometimes after an opening."""
        text = rng.choice(self.compiled).render(slots)
        if self.openings and rng.random() < OPENING_SHARE:
            text = f"{rng.choice(self.openings)} {text}"
        return text

    def answer(self, slots: Slots, rng: Random, world: World) -> str:
        """A correct answer in one of the allowed wordings."""
        return self.answering.write(slots, rng, world)

    def judge(self, slots: Slots, answer: str, world: World) -> bool:
        """Whether the answer is complete and correct, ignoring surrounding whitespace."""
        return self.answering.judge(slots, answer.strip(), world)

    def parse(self, instruction: str) -> dict[str, str] | None:
        """The slots of an instruction of this task; None for any other."""
        for phrasing in self.compiled:
            slots = phrasing.parse(instruction)
            if slots is not None and self.valid(slots):
                return slots
        return None
