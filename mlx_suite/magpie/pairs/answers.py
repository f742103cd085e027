"""Several answers to each question of a dataset, drawn with their own random numbers and graded in the same slot.

The answers to a question are begun one after the other, so its keys and values are computed once and shared. Each
answer depends on the seed, the number of its row and its own number: what a killed run had not written comes out the
same the next time, and more answers can be asked for later.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mlx_suite.curation.tags.tagging import make_tagger, only, probabilities, questions_for
from mlx_suite.data.questions import Question
from mlx_suite.engine import Aside, Given, Program, Reply, Request, Rewind, Sample, Sampling, Written
from mlx_suite.magpie.author import Author
from mlx_suite.magpie.drift import flaw_of
from mlx_suite.magpie.row import row_seed
from mlx_suite.runtime.journal import Journal, read_lines
from mlx_suite.text import Message

GRADE_QUESTION = "answer_quality"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer of one row."""

    row: int
    """Number of the row in the data, from 0."""
    number: int
    """Among the answers to it, from 0."""
    text: str
    tokens: int
    """Without the stop token."""
    flaw: str | None
    """Why it is not whole (`endings.Flaw`): it may not be used."""
    grade: float | None = None
    """What the model itself thinks of it, from 0 for the lowest label; None where it is not whole, where it was not
    asked, or where the context had no room for the question."""
    graded: bool = False
    """Whether it was asked."""


@dataclass(frozen=True, kw_only=True)
class Grader:
    """The question about an answer's quality, in a checkpoint's tokens."""

    question: Question
    aside: Aside

    def grade(self, replies: Sequence[Reply] | None) -> float | None:
        """The expected place on the scale, weighed by the labels' probabilities: no label has to win."""
        if not replies:
            return None
        return sum(place * share for place, share in enumerate(probabilities(replies[0].log_probs)))


def make_grader(author: Author) -> Grader | None:
    """The checkpoint's own question about answers, or the full one. None where its questions ask nothing about them."""
    questions = questions_for(author.folder)
    if not any(each.name == GRADE_QUESTION for each in questions.questions):
        return None
    speaker = author.speaker
    tagger = make_tagger(speaker.tokenizer, speaker.template, only(questions, [GRADE_QUESTION]), embed=False)
    return Grader(question=questions.named(GRADE_QUESTION), aside=tagger.answer)


@dataclass(frozen=True, kw_only=True)
class Answering:
    """How answers are drawn and graded."""

    author: Author
    sampling: Sampling
    limit: int
    """Tokens of the longest answer."""
    seed: int
    grader: Grader | None = None

    def request(self, prompt: Sequence[int], row: int, number: int) -> Request:
        """One answer as the engine runs it; its result is an `Answer`."""
        sample = self.author.answering(self.limit, self.sampling, salt=number)
        return Request(program=self._program(tuple(prompt), sample, row, number), seed=row_seed(self.seed, row))

    def _program(self, prompt: tuple[int, ...], sample: Sample, row: int, number: int) -> Program:
        author = self.author
        yield Given(prompt)
        written: Written = yield sample
        text = author.text(written)
        flaw, grade = flaw_of(written, text, author.answer_ends), None
        if flaw is None and self.grader is not None:
            if written.stop_token != author.own_end:
                yield Rewind(len(prompt) + len(written.tokens))
                yield Given((author.own_end,))
            grade = self.grader.grade((yield self.grader.aside))
        return Answer(
            row=row,
            number=number,
            text=text,
            tokens=len(written.tokens),
            flaw=flaw,
            grade=grade,
            graded=self.grader is not None,
        )


def write_answers(
    answering: Answering, questions: Sequence[Sequence[Message]], count: int, journal: Journal
) -> Iterator[Answer]:
    """Draw what the journal lacks of `count` answers to each question, write each as it ends, and yield it.

    Questions that the template refuses get none.
    """
    known = read_answers(journal.path, answering)
    for answer in answering.author.run(_requests(answering, questions, count, known)):
        journal.append(asdict(answer))
        yield answer


def _requests(
    answering: Answering, questions: Sequence[Sequence[Message]], count: int, known: Collection[tuple[int, int]]
) -> Iterator[Request]:
    """One after the other: the tokens of a large dataset need not be held."""
    for row, question in enumerate(questions):
        missing = [number for number in range(count) if (row, number) not in known]
        prompt = answering.author.prompt(question) if missing else None
        if prompt is not None:
            yield from (answering.request(prompt, row, number) for number in missing)


def read_answers(path: Path, answering: Answering) -> dict[tuple[int, int], Answer]:
    """The answers that a journal holds, by row and number, so far as they are what `answering` would give.

    A whole answer stays what it is when more tokens are allowed: only one that was cut off is written anew, and one
    that nobody has graded where grades are wanted.

    Raises UserError with `file:line` for a line that is no answer.
    """
    answers = read_lines(path, lambda record: Answer(**record))
    return {(answer.row, answer.number): answer for answer in answers if _fits(answer, answering)}


def _fits(answer: Answer, answering: Answering) -> bool:
    if answering.grader is not None and not answer.graded:
        return False
    # The stop token counts towards the limit.
    limit = answering.limit
    return answer.tokens == limit if answer.flaw == "limit" else answer.tokens < limit
