"""Reading comprehension: questions about a passage whose answers are quoted from it or take one step of thought.

A question is a phrasing of the microworld's information tasks, or one of the phrasings below for questions that need
reasoning. `find_answer` reads a question back and answers it from the facts of a passage, so that the questions and
answers of a model can be judged.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import cast, get_args

from .lexicon import article
from .passages import Fact, Relation, WorldPassage
from .population import FAMILY_NAMES, GIVEN_NAMES, TOWN_NAMES
from .tasks.information import TASKS
from .world import COUNTRIES, FOODS, HOBBIES, JOBS, LANDMARKS, PETS, PLACE_NAMES, PRODUCTS, RIVERS, YEARS

VALUES: Mapping[Relation, tuple[str, ...]] = {
    "birthplace": (*PLACE_NAMES, *TOWN_NAMES),
    "birth_year": YEARS,
    "job": tuple(map(article, JOBS)),
    "hobby": tuple(HOBBIES),
    "food": tuple(FOODS),
    "pet": tuple(map(article, PETS)),
    "country": COUNTRIES,
    "river": RIVERS,
    "known_for": tuple(PRODUCTS),
    "landmark": LANDMARKS,
}
"""Values that a relation can have, as passages write them. Friends are people, whose names are too many to list."""
DECADES = tuple(f"the {decade}s" for decade in range(1950, 2000, 10))
_NAME, _WORD = r"[A-Z]\w+ [A-Z]\w+", r"[A-Z]\w+"

STYLES = ("free", "choice", "reasoning", "both", "mixed")
"""Kinds of the pairs of a passage: all of one kind, or mixed."""


@dataclass(frozen=True, kw_only=True)
class ReadingPair:
    """A question about a passage and the right answer."""

    question: str
    answer: str
    options: tuple[str, ...] = ()
    reasoning: str = ""


@dataclass(frozen=True, kw_only=True)
class FoundAnswer:
    """The right answer to a question about a passage."""

    answer: str
    reasoning: str = ""
    """The thought that leads to it; empty if the passage states it."""
    options: tuple[str, ...] = ()
    """Answers that a multiple-choice question may offer."""


def questions_about(fact: Fact) -> tuple[str, ...]:
    """All phrasings of the question that `fact` answers."""
    template = _quoting(fact.relation, _is_town(fact))
    return tuple(each.format(person=fact.subject, place=fact.subject) for each in template)


def find_answer(question: str, passage: WorldPassage) -> FoundAnswer | None:
    """The answer to a question, from the facts of the passage; None if it is unknown or the passage does not say."""
    for pattern, answer, _, _ in _patterns():
        if match := pattern.fullmatch(question.strip()):
            return answer(match.groupdict(), passage)
    return None


def topics_of(question: str) -> frozenset[tuple[str, Relation]]:
    """Subjects and relations whose values the answer, or the reasoning before it, reveals; empty for an unknown one."""
    for pattern, _, relation, slots in _patterns():
        if match := pattern.fullmatch(question.strip()):
            return frozenset((match[slot], relation) for slot in slots)
    return frozenset()


def write_pairs(passage: WorldPassage, rng: Random, count: int, style: str = "mixed") -> list[ReadingPair]:
    """At most `count` pairs with different questions, fewer if the passage does not allow more in this style.

    Questions that the passage answers in its words follow its order, as those of people who write reading tests do.
    """
    pairs: dict[str, ReadingPair] = {}
    quoted, thought = _quoted_questions(passage, rng), _thought_questions(passage, rng)
    for _ in range(count):
        kind = rng.choice(("free", "free", "choice", "reasoning", "both")) if style == "mixed" else style
        pool = thought if kind in ("reasoning", "both") else quoted
        if not pool:
            if style != "mixed":
                break
            kind, pool = "free", quoted
        if not pool:
            break
        question = pool.pop(0)
        found = find_answer(question, passage)
        assert found is not None, question
        pairs[question] = ReadingPair(
            question=question,
            answer=found.answer,
            reasoning=found.reasoning,
            options=_shuffled_options(found, rng) if kind in ("choice", "both") else (),
        )
    return list(pairs.values())


def _quoted_questions(passage: WorldPassage, rng: Random) -> list[str]:
    return [rng.choice(questions_about(fact)) for fact in passage.facts]


def _thought_questions(passage: WorldPassage, rng: Random) -> list[str]:
    born = [fact.subject for fact in passage.facts if fact.relation == "birth_year"]
    slots = [{"person": person, "year": rng.choice(YEARS[5::5])} for person in born]
    if len(born) == 2:
        slots[0]["other"], slots[1]["other"] = born[1], born[0]
    questions = []
    for templates, answer in _THOUGHTS.items():
        asked = slots if "{other}" not in templates[0] else rng.sample(slots, len(slots))[:1]
        for values in asked:
            if ("{other}" not in templates[0] or "other" in values) and answer(values, passage) is not None:
                questions.append(rng.choice(templates).format(**values))
    rng.shuffle(questions)
    return questions


def _shuffled_options(found: FoundAnswer, rng: Random) -> tuple[str, ...]:
    others = [option for option in found.options if option != found.answer]
    chosen = [found.answer, *rng.sample(others, min(3, len(others)))]
    rng.shuffle(chosen)
    return tuple(chosen)


# ---- questions that the passage answers in its words


def _is_town(fact: Fact) -> bool:
    return " " not in fact.subject


@cache
def _quoting(relation: Relation, is_town: bool) -> tuple[str, ...]:
    name = f"{'place' if is_town else 'person'}_{relation}"
    [task] = [task for task in TASKS if task.name == name]
    return task.phrasings


def _quoted(relation: Relation, subject: str) -> "_Answering":
    def answer(slots: Mapping[str, str], passage: WorldPassage) -> FoundAnswer | None:
        value = passage.value(slots[subject], relation)
        if value is None:
            return None
        options = VALUES.get(relation, ()) or _names_beside(value)
        return FoundAnswer(answer=value, options=options)

    return answer


@cache
def _names_beside(name: str) -> tuple[str, ...]:
    """Names to offer beside a friend's: drawn from the name, so that they are always the same."""
    rng = Random(name)
    return tuple(f"{rng.choice(GIVEN_NAMES)} {rng.choice(FAMILY_NAMES)}" for _ in range(6))


# ---- questions that take one step of thought

_Answering = Callable[[Mapping[str, str], WorldPassage], FoundAnswer | None]


def _decade(slots: Mapping[str, str], passage: WorldPassage) -> FoundAnswer | None:
    year = passage.value(slots["person"], "birth_year")
    if year is None:
        return None
    decade = f"the {year[:3]}0s"
    reasoning = f"{slots['person']} was born in {year}, and {year} is in {decade}."
    return FoundAnswer(answer=decade, reasoning=reasoning, options=DECADES)


def _before(slots: Mapping[str, str], passage: WorldPassage) -> FoundAnswer | None:
    year = passage.value(slots["person"], "birth_year")
    if year is None:
        return None
    is_before = year < slots["year"]
    reasoning = (
        f"{slots['person']} was born in {year}, and {year} is {'' if is_before else 'not '}before {slots['year']}."
    )
    return FoundAnswer(answer="yes" if is_before else "no", reasoning=reasoning, options=("yes", "no"))


def _country(slots: Mapping[str, str], passage: WorldPassage) -> FoundAnswer | None:
    town = passage.value(slots["person"], "birthplace")
    country = None if town is None else passage.value(town, "country")
    if country is None:
        return None
    reasoning = f"{slots['person']} was born in {town}, and {town} is in {country}."
    return FoundAnswer(answer=country, reasoning=reasoning, options=COUNTRIES)


def _older(slots: Mapping[str, str], passage: WorldPassage) -> FoundAnswer | None:
    one, other = slots["person"], slots["other"]
    years = [passage.value(name, "birth_year") for name in (one, other)]
    if years[0] is None or years[1] is None or years[0] == years[1]:
        return None
    first, second = sorted((years[0], years[1]))
    reasoning = f"{one} was born in {years[0]} and {other} in {years[1]}, and {first} is before {second}."
    return FoundAnswer(answer=one if years[0] < years[1] else other, reasoning=reasoning, options=(one, other))


_THOUGHTS: Mapping[tuple[str, ...], _Answering] = {
    (
        "In which decade was {person} born?",
        "Which decade does the birth of {person} fall into?",
        "Name the decade in which {person} was born.",
    ): _decade,
    (
        "Was {person} born before {year}?",
        "Is the birth of {person} earlier than {year}?",
        "Did the birth of {person} come before {year}?",
    ): _before,
    (
        "In which country was {person} born?",
        "Which country does {person} come from?",
        "Name the country where {person} was born.",
    ): _country,
    (
        "Who is older, {person} or {other}?",
        "Who was born first, {person} or {other}?",
        "Which of the two is older, {person} or {other}?",
    ): _older,
}


_REVEALED: Mapping[_Answering, tuple[Relation, tuple[str, ...]]] = {
    _decade: ("birth_year", ("person",)),
    _before: ("birth_year", ("person",)),
    _country: ("birthplace", ("person",)),
    _older: ("birth_year", ("person", "other")),
}
"""The relation that the reasoning of a question states, and of which slots."""


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], _Answering, Relation, tuple[str, ...]], ...]:
    """Every phrasing as a pattern, the function that answers it, and what it is about: relation and slots."""
    found: list[tuple[re.Pattern[str], _Answering, Relation, tuple[str, ...]]] = []
    for task in TASKS:
        subject, _, relation = task.name.partition("_")
        if relation in get_args(Relation):
            about = cast(Relation, relation)
            found += [(_pattern(each), _quoted(about, subject), about, (subject,)) for each in task.phrasings]
    for templates, answer in _THOUGHTS.items():
        found += [(_pattern(each), answer, *_REVEALED[answer]) for each in templates]
    return tuple(found)


def _pattern(template: str) -> re.Pattern[str]:
    text = re.escape(template)
    for slot, values in {"person": _NAME, "other": _NAME, "place": _WORD, "year": r"\d{4}"}.items():
        text = text.replace(rf"\{{{slot}\}}", f"(?P<{slot}>{values})")
    return re.compile(text)
