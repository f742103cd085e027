"""Whether a model's tags can be believed: its labels beside true ones, and what choosing them is worth.

Tags are chosen among the labels, so every one of them can be read. Whoever lets a model write its tags has to parse
them: asked the same questions as text, the share that can be read and its agreement show what that costs. Asked twice,
with the replies listed the other way round, a model that knows what it says gives the same tags.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mlx_suite.curation.tags.ask import ask_row
from mlx_suite.curation.tags.full_questions import SCALES
from mlx_suite.curation.tags.label_agreement import LabelAgreement, Told, label_agreement, same_labels
from mlx_suite.curation.tags.labelled import Labelled
from mlx_suite.curation.tags.tagging import Tag, Tagger, make_tagger, only
from mlx_suite.data.questions import Question, Questions
from mlx_suite.engine import Engine, Given, Program, Request, Rewind, Sample, Sampling
from mlx_suite.engine.chat_model import Speaker, Spoken
from mlx_suite.runtime.errors import UserError

TEXT_TOKENS = 24
"""Tokens a reply in text may have: a label and a few words too many."""
SLOTS = 8
_PUNCTUATION = re.compile(r"[*_`#\"'.,:;!?()\[\]]+")
Tell = Callable[[int, int], None]
"""Called with the rows that are done and how many there are."""


@dataclass(frozen=True, kw_only=True)
class QuestionReport:
    """One question."""

    question: Question
    chosen: LabelAgreement
    """By the most probable label."""
    written: LabelAgreement | None = None
    """By text that has been parsed, where that was asked for."""
    stability: float | None = None
    """Share of the rows that had the same label with the second questions."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "question": self.question.name,
            **self.chosen.as_dict(),
            "as_text": None if self.written is None else self.written.as_dict(),
            "stability": self.stability,
        }


@dataclass(frozen=True, kw_only=True)
class CalibrationReport:
    """All questions for which labels were known."""

    rows: int
    left_out: int
    """Rows that could not be put to the model."""
    questions: tuple[QuestionReport, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        questions = [each.as_dict() for each in self.questions]
        return {"rows": self.rows, "left_out": self.left_out, "questions": questions}


@dataclass(kw_only=True)
class _Replies:
    """What the model said of one row, by question."""

    tags: dict[str, Tag] = field(default_factory=dict)
    second: dict[str, Tag] = field(default_factory=dict)
    written: dict[str, str | None] = field(default_factory=dict)


def calibrate(
    model: Any,
    speaker: Speaker,
    rows: Sequence[Labelled],
    questions: Questions,
    *,
    as_text: bool = False,
    second: Questions | None = None,
    tell: Tell = lambda done, total: None,
) -> CalibrationReport:
    """Ask about every row what is known of it, and compare.

    Args:
        as_text: Also let the model write its replies, and parse them.
        second: The same questions in other words, asked as well.

    Raises UserError for a template that questions cannot be asked in, and for second questions with other labels.
    """
    if second is not None:
        _check_second(questions, second)
    askers = _Askers(speaker=speaker, questions=questions, second=second, as_text=as_text)
    engine = Engine(model, slots=SLOTS if as_text else 1, context=speaker.context)
    replies: dict[int, _Replies | None] = {}
    for done in engine.run(Request(program=askers.program(row), seed=number) for number, row in enumerate(rows)):
        replies[done.request.seed] = done.result
        tell(len(replies), len(rows))
    told = [(row, said) for number, row in enumerate(rows) if (said := replies[number]) is not None]
    reports = (_report(question, told, as_text=as_text, twice=second is not None) for question in questions.questions)
    return CalibrationReport(
        rows=len(rows),
        left_out=len(rows) - len(told),
        questions=tuple(each for each in reports if each.chosen.rows),
    )


def read_reply(text: str, labels: Sequence[str]) -> str | None:
    """The label that a reply gives: the reply itself, or the only label in it as whole words. None if it gives none."""
    said = _words(text)
    found: list[str] = []
    for label in sorted(labels, key=len, reverse=True):
        if said == _words(label):
            return label
        # The longest come first and are taken out: "very poor" is not "poor".
        said, count = re.subn(rf"(?<!\w){re.escape(_words(label))}(?!\w)", "\0", said)
        found += [label] * (count > 0)
    return found[0] if len(found) == 1 else None


def _words(text: str) -> str:
    """In small letters, without markup and punctuation."""
    return " ".join(_PUNCTUATION.sub(" ", text.replace("&", " and ")).split()).casefold()


@dataclass(frozen=True, kw_only=True)
class _Askers:
    """Programs that ask about a row what is known of it and nothing else."""

    speaker: Speaker
    questions: Questions
    second: Questions | None
    as_text: bool
    made: dict[tuple[str, ...], tuple[Tagger, ...]] = field(default_factory=dict)

    def taggers_for(self, names: tuple[str, ...]) -> tuple[Tagger, ...]:
        """For these questions: the tagger, and the one with the second questions where there are some."""
        if names not in self.made:
            kinds = [self.questions, *([] if self.second is None else [self.second])]
            self.made[names] = tuple(
                make_tagger(self.speaker.tokenizer, self.speaker.template, only(each, names), embed=False)
                for each in kinds
            )
        return self.made[names]

    @cached_property
    def stops(self) -> frozenset[int]:
        """Tokens that end a written reply."""
        return self.speaker.tokenizer.stop_ids | {self.speaker.turns.assistant_stop_ids[0]}

    def program(self, row: Labelled) -> Program:
        """Returns `_Replies`; None for a row that cannot be put to the model."""
        spoken = self.speaker.speak(row.messages)
        if isinstance(spoken, str):
            return None
        first, *second = self.taggers_for(tuple(row.truth))
        found = yield from ask_row(spoken, [first, *second])
        if found is None:
            return None
        written = (yield from self._write(spoken, first)) if self.as_text else {}
        return _Replies(tags=found[0], second=found[1] if second else {}, written=written)

    def _write(self, spoken: Spoken, tagger: Tagger) -> Program:
        """Returns replies in text, by question; nothing is left of them in the sequence."""
        written: dict[str, str | None] = {}
        parts = [(spoken.asked, tagger.questions.about("instruction"), tagger.instruction)]
        if spoken.answer is not None:
            parts.append((len(spoken.ids), tagger.questions.about("answer"), tagger.answer))
        yield Rewind(spoken.asked)
        for length, questions, aside in parts:
            yield Given(spoken.ids[spoken.asked : length])
            for question, query in zip(questions, aside.queries, strict=True):
                yield Given(query.tokens)
                reply = yield Sample(limit=TEXT_TOKENS, stop=self.stops, sampling=Sampling(temperature=0.0))
                text = self.speaker.tokenizer.decode(reply.tokens)
                written[question.name] = read_reply(text, question.labels)
                yield Rewind(length)
        return written


def _report(
    question: Question, told: Sequence[tuple[Labelled, _Replies]], *, as_text: bool, twice: bool
) -> QuestionReport:
    name = question.name
    rows = [(row.truth[name], said) for row, said in told if name in row.truth and name in said.tags]
    scale = question.labels in SCALES
    chosen = [
        Told(truth=truth, label=said.tags[name].label, confidence=said.tags[name].confidence) for truth, said in rows
    ]
    written = [Told(truth=truth, label=said.written.get(name)) for truth, said in rows]
    pairs = [(said.tags[name].label, said.second[name].label) for _, said in rows if name in said.second]
    return QuestionReport(
        question=question,
        chosen=label_agreement(question.labels, chosen, scale=scale),
        written=label_agreement(question.labels, written, scale=scale) if as_text else None,
        stability=same_labels([one for one, _ in pairs], [other for _, other in pairs]) if twice else None,
    )


def _check_second(questions: Questions, second: Questions) -> None:
    """Raises UserError that lists every question that the second ones lack, or give other labels."""
    theirs = {question.name: question for question in second.questions}
    problems = [
        f"{question.name}: " + ("is missing" if question.name not in theirs else "has other labels")
        for question in questions.questions
        if question.name not in theirs
        or (theirs[question.name].labels, theirs[question.name].about) != (question.labels, question.about)
    ]
    if problems:
        raise UserError(
            "The second questions are not the same in other words",
            where="--second",
            fix="give each question the same name, the same labels in the same order, and another text",
            details=problems,
        )
