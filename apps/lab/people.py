"""The microworld of a lab: who is asked about, who is not, and the questions to score with."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from random import Random

from mlx_suite.microworld.passages import Fact, WorldPassage, facts_of_person, person_passage
from mlx_suite.microworld.population import make_population
from mlx_suite.microworld.reading import questions_about, write_pairs
from mlx_suite.microworld.world import Person

from .recipe import LabWorld

RECALL, ASKED, NOT_ASKED, OTHERS, OPEN_BOOK = "recall", "asked", "not asked", "other people", "open book"
GROUPS = {
    RECALL: "held-out biographies, to be continued where they state a fact",
    ASKED: "questions about facts that a pair of the training data reveals (in distribution)",
    NOT_ASKED: "other questions about the same people",
    OTHERS: "questions about people of whom the model read only biographies",
    OPEN_BOOK: "questions about unseen people, with the text in the prompt",
}
"""Groups of questions, all but the last without the text that answers them (closed book)."""
TOWNS = 40
"""Towns that people come from."""
VALID_TEXTS = 1
"""Held-out biographies of each person, in wordings of their own, for bits per byte."""

Topics = frozenset[tuple[str, str]]
"""Facts, as (person, relation)."""


@dataclass(frozen=True, kw_only=True)
class LabQuestion:
    """A question with its answer and group."""

    question: str
    answer: str
    relation: str
    group: str
    text: str = ""
    """The text to answer from, or to continue; empty for a closed-book question."""


@dataclass(frozen=True, kw_only=True)
class LabPeople:
    """The people of a lab."""

    world: LabWorld

    @cached_property
    def people(self) -> tuple[Person, ...]:
        """Those whose biographies are trained on."""
        return make_population(self.world.people, seed=self.world.seed, towns=TOWNS, heldout=True).people

    @property
    def asked(self) -> tuple[Person, ...]:
        """Those about whom the synthesizer writes."""
        return self.people[: round(self.world.asked * self.world.people)]

    @property
    def others(self) -> tuple[Person, ...]:
        return self.people[len(self.asked) :]

    @cached_property
    def unseen(self) -> tuple[Person, ...]:
        """People whom no text of the lab mentions."""
        known = {name for person in self.people for name in (person.name, person.friend)}
        count = self.world.people + self.world.unseen
        drawn = make_population(count, seed=self.world.seed + 1, towns=TOWNS, heldout=True).people
        return tuple(person for person in drawn if person.name not in known)[: self.world.unseen]

    def text(self, person: Person, number: int) -> str:
        """The biography of this number: always the same."""
        return self.passage(person, number).text

    def passage(self, person: Person, number: int) -> WorldPassage:
        return person_passage(person, Random(f"{self.world.seed} {person.name} {number}"))

    def raw_texts(self) -> Iterator[str]:
        """The raw corpus."""
        for number in range(self.world.texts):
            for person in self.people:
                yield self.text(person, number)

    def tenth(self) -> Iterator[str]:
        """A tenth of the raw corpus, about different people in each round of texts."""
        for place, text in enumerate(self.raw_texts()):
            number, person = divmod(place, self.world.people)
            if (number + person) % 10 == 0:
                yield text

    def fresh_texts(self) -> Iterator[str]:
        """Endless biographies, each in other words; the first are the raw corpus."""
        number = 0
        while True:
            for person in self.people:
                yield self.text(person, number)
            number += 1

    def heldout_texts(self) -> Iterator[str]:
        """Biographies of the lab's people in wordings that are not trained on."""
        for number in range(VALID_TEXTS):
            for person in self.people:
                yield self.text(person, -1 - number)

    def questions(self, revealed: Topics) -> list[LabQuestion]:
        """All questions to score with, in one random phrasing each; `revealed` are the facts that pairs state."""
        rng = Random(f"lab questions {self.world.seed}")
        asked = {person.name for person in self.asked}
        found = []
        for person in self.people:
            for fact in facts_of_person(person):
                is_known = (fact.subject, fact.relation) in revealed
                group = ASKED if is_known else NOT_ASKED if person.name in asked else OTHERS
                found.append(_question(fact, group, rng))
            found += self._completions(person)
        for person in self.unseen:
            passage = self.passage(person, 0)
            fact = rng.choice(passage.facts)
            found.append(_question(fact, OPEN_BOOK, rng, passage.text))
        return found

    def _completions(self, person: Person) -> Iterator[LabQuestion]:
        """A held-out biography up to each fact that it has not stated before."""
        passage = self.passage(person, -1)
        for fact in passage.facts:
            before = passage.text[: passage.text.index(fact.value)].rstrip()
            if before:
                yield LabQuestion(question="", answer=fact.value, relation=fact.relation, group=RECALL, text=before)

    def tuning_questions(self, revealed: Topics) -> list[LabQuestion]:
        """Questions to finetune on: about revealed facts, and as many with a text about people of the synthesizer."""
        rng = Random(f"lab tuning {self.world.seed}")
        closed = [
            _question(fact, ASKED, rng)
            for person in self.asked
            for fact in facts_of_person(person)
            if (fact.subject, fact.relation) in revealed
        ]
        readers = make_population(200, seed=self.world.seed)
        opened: list[LabQuestion] = []
        while len(opened) < len(closed):
            passage = person_passage(rng.choice(readers.people), rng)
            [pair] = write_pairs(passage, rng, 1, "free")
            opened.append(
                LabQuestion(question=pair.question, answer=pair.answer, relation="", group=OPEN_BOOK, text=passage.text)
            )
        return [*closed, *opened]


def _question(fact: Fact, group: str, rng: Random, text: str = "") -> LabQuestion:
    return LabQuestion(
        question=rng.choice(questions_about(fact)), answer=fact.value, relation=fact.relation, group=group, text=text
    )
