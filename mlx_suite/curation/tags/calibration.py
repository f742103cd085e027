"""Calibrate a model's tags: compare its labels with true ones.

A tag is the most probable label, so nothing is parsed. Tags generated as text must be; `as_text` measures what that
costs in parse rate and agreement. A second set of questions, for example with the replies listed in reverse, measures
stability: a reliable model gives the same tags.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mlx_suite.curation.tags.full_questions import SCALES
from mlx_suite.curation.tags.label_agreement import JudgedRow, LabelAgreement, label_agreement, same_labels
from mlx_suite.curation.tags.labelled import Labelled
from mlx_suite.curation.tags.tagging import Tag, Tagger, ask_row, make_tagger, only
from mlx_suite.data.questions import Question, Questions
from mlx_suite.engine import Given, Program, Request, Rewind, Sample
from mlx_suite.engine.chat_model import ChatModel, EncodedConversation
from mlx_suite.engine.step import GREEDY
from mlx_suite.runtime.errors import UserError

TEXT_TOKENS = 24
"""Token limit of a reply in text: a label and a few extra words."""
SLOTS = 8
_PUNCTUATION = re.compile(r"[*_`#\"'.,:;!?()\[\]]+")
OnProgress = Callable[[int, int], None]
"""Called with the number of rows done and the total."""


@dataclass(frozen=True, kw_only=True)
class QuestionReport:
    """Agreement on one question."""

    question: Question
    chosen: LabelAgreement
    """Agreement of the most probable labels."""
    written: LabelAgreement | None = None
    """Agreement of replies generated as text and parsed, if requested."""
    stability: float | None = None
    """Share of rows with the same label under the second questions."""

    def as_dict(self) -> dict[str, Any]:
        """JSON object."""
        return {
            "question": self.question.name,
            **self.chosen.as_dict(),
            "as_text": None if self.written is None else self.written.as_dict(),
            "stability": self.stability,
        }


@dataclass(frozen=True, kw_only=True)
class CalibrationReport:
    """Agreement on all questions with true labels."""

    rows: int
    left_out: int
    """Rows that the template rejects or that exceed the context."""
    questions: tuple[QuestionReport, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON object."""
        questions = [each.as_dict() for each in self.questions]
        return {"rows": self.rows, "left_out": self.left_out, "questions": questions}


@dataclass(kw_only=True)
class _RowReplies:
    """The model's replies about one row, by question."""

    tags: dict[str, Tag] = field(default_factory=dict)
    second: dict[str, Tag] = field(default_factory=dict)
    written: dict[str, str | None] = field(default_factory=dict)


def calibrate(
    chat: ChatModel,
    rows: Sequence[Labelled],
    questions: Questions,
    *,
    as_text: bool = False,
    second: Questions | None = None,
    on_progress: OnProgress = lambda done, total: None,
) -> CalibrationReport:
    """Ask each row the questions it has true labels for, and compare.

    Args:
        as_text: Also generate the replies as text and parse them.
        second: The same questions, reworded, to measure stability.

    Raises UserError for a template in which questions cannot be asked, and for second questions with other labels.
    """
    if second is not None:
        _check_second(questions, second)
    questioner = _Questioner(chat=chat, questions=questions, second=second, as_text=as_text)
    requests = (Request(program=questioner.program(number, row)) for number, row in enumerate(rows))
    replies: dict[int, _RowReplies | None] = {}
    for number, reply in replace(chat, slots=SLOTS if as_text else 1).run(requests):
        replies[number] = reply
        on_progress(len(replies), len(rows))
    judged = [(row, own) for number, row in enumerate(rows) if (own := replies[number]) is not None]
    reports = (_report(question, judged, as_text=as_text, twice=second is not None) for question in questions.questions)
    return CalibrationReport(
        rows=len(rows),
        left_out=len(rows) - len(judged),
        questions=tuple(each for each in reports if each.chosen.rows),
    )


def read_reply(text: str, labels: Sequence[str]) -> str | None:
    """Parse a reply: the label it equals, or the only one it contains as whole words; None otherwise."""
    reply = _words(text)
    found: list[str] = []
    for label in sorted(labels, key=len, reverse=True):
        if reply == _words(label):
            return label
        # Longest first, each removed when found: "very poor" is not "poor".
        reply, count = re.subn(rf"(?<!\w){re.escape(_words(label))}(?!\w)", "\0", reply)
        found += [label] * (count > 0)
    return found[0] if len(found) == 1 else None


def _words(text: str) -> str:
    """Case-folded words without markup and punctuation."""
    return " ".join(_PUNCTUATION.sub(" ", text.replace("&", " and ")).split()).casefold()


@dataclass(frozen=True, kw_only=True)
class _Questioner:
    """Makes programs that ask only the questions a row has true labels for."""

    chat: ChatModel
    questions: Questions
    second: Questions | None
    as_text: bool
    taggers: dict[tuple[str, ...], tuple[Tagger, ...]] = field(default_factory=dict)

    def taggers_for(self, names: tuple[str, ...]) -> tuple[Tagger, ...]:
        """Taggers for these questions and, if there are any, the second questions."""
        if names not in self.taggers:
            sets = [self.questions, *([] if self.second is None else [self.second])]
            self.taggers[names] = tuple(
                make_tagger(self.chat.tokenizer, self.chat.own_template, only(each, names), embed=False)
                for each in sets
            )
        return self.taggers[names]

    def program(self, number: int, row: Labelled) -> Program:
        """Return (number, `_RowReplies`); None for a row that the template rejects or that exceeds the context."""
        return number, (yield from self._replies(row))

    def _replies(self, row: Labelled) -> Program:
        encoded = self.chat.encode(row.messages)
        if isinstance(encoded, str):
            return None
        first, *second = self.taggers_for(tuple(row.truth))
        tags = yield from ask_row(encoded, [first, *second])
        if tags is None:
            return None
        written = (yield from self._write(encoded, first)) if self.as_text else {}
        return _RowReplies(tags=tags[0], second=tags[1] if second else {}, written=written)

    def _write(self, encoded: EncodedConversation, tagger: Tagger) -> Program:
        """Generate replies as text, rewinding after each; returns the parsed labels by question."""
        written: dict[str, str | None] = {}
        parts = [(encoded.instruction_end, tagger.questions.about("instruction"), tagger.instruction)]
        if encoded.response is not None:
            parts.append((len(encoded.ids), tagger.questions.about("answer"), tagger.answer))
        yield Rewind(encoded.instruction_end)
        for length, questions, asked in parts:
            yield Given(encoded.ids[encoded.instruction_end : length])
            for question, query in zip(questions, asked.queries, strict=True):
                yield Given(query.tokens)
                reply = yield Sample(limit=TEXT_TOKENS, stop=self.chat.response_ends, sampling=GREEDY)
                text = self.chat.tokenizer.decode(reply.tokens)
                written[question.name] = read_reply(text, question.labels)
                yield Rewind(length)
        return written


def _report(
    question: Question, judged: Sequence[tuple[Labelled, _RowReplies]], *, as_text: bool, twice: bool
) -> QuestionReport:
    name = question.name
    rows = [(row.truth[name], own) for row, own in judged if name in row.truth and name in own.tags]
    scale = question.labels in SCALES
    chosen = [
        JudgedRow(truth=truth, label=own.tags[name].label, confidence=own.tags[name].confidence) for truth, own in rows
    ]
    written = [JudgedRow(truth=truth, label=own.written.get(name)) for truth, own in rows]
    pairs = [(own.tags[name].label, own.second[name].label) for _, own in rows if name in own.second]
    return QuestionReport(
        question=question,
        chosen=label_agreement(question.labels, chosen, scale=scale),
        written=label_agreement(question.labels, written, scale=scale) if as_text else None,
        stability=same_labels([one for one, _ in pairs], [other for _, other in pairs]) if twice else None,
    )


def _check_second(questions: Questions, second: Questions) -> None:
    """Raises UserError that lists every question missing from the second set or with other labels in it."""
    theirs = {question.name: question for question in second.questions}
    problems = [
        f"{question.name}: " + ("is missing" if question.name not in theirs else "has other labels")
        for question in questions.questions
        if question.name not in theirs
        or (theirs[question.name].labels, theirs[question.name].about) != (question.labels, question.about)
    ]
    if problems:
        raise UserError(
            "The second questions do not match the first",
            where="--second",
            fix="give each question the same name and the same labels in the same order; only the text may differ",
            details=problems,
        )
