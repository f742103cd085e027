"""Several responses to each instruction of a dataset, sampled with different seeds and graded in the same slot.

The responses to one instruction are started one after the other, so its prompt is prefilled once and shared. Each
response depends only on the seed, its row and its number: those missing after a kill come out the same in the next run,
and more can be requested later.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mlx_suite.curation.tags.tagging import make_tagger, only, probabilities, questions_for
from mlx_suite.data.questions import Question
from mlx_suite.engine import Given, Program, Queries, Reply, Request, Sample, Sampling, Written
from mlx_suite.engine.chat_model import ChatModel
from mlx_suite.magpie.drift import flaw_of
from mlx_suite.magpie.plan import row_seed
from mlx_suite.magpie.turns import end_turn
from mlx_suite.runtime.journal import Journal, read_lines
from mlx_suite.text import Message

GRADE_QUESTION = "answer_quality"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One response to one row's instruction, as stored in the journal."""

    row: int
    """0-based index of the row in the data."""
    number: int
    """0-based index among the row's responses."""
    text: str
    tokens: int
    """Number of tokens without the stop token."""
    flaw: str | None
    """Why it is incomplete and cannot be used (`drift.Flaw`); None if it is complete."""
    grade: float | None = None
    """The model's own grade, counted in labels from 0 for the lowest. None if the response is incomplete or was not
    graded, or if the context had no room for the question."""
    graded: bool = False
    """Whether grading was requested."""


@dataclass(frozen=True, kw_only=True)
class Grader:
    """The question about a response's quality, in the checkpoint's tokens."""

    question: Question
    queries: Queries

    def grade(self, replies: Sequence[Reply] | None) -> float | None:
        """Expected position on the scale under the labels' probabilities."""
        if not replies:
            return None
        return sum(place * share for place, share in enumerate(probabilities(replies[0].log_probs)))


def make_grader(chat: ChatModel) -> Grader | None:
    """Make a grader from the checkpoint's question or the general one; None if its questions do not cover responses."""
    questions = questions_for(chat.folder)
    if not any(each.name == GRADE_QUESTION for each in questions.questions):
        return None
    tagger = make_tagger(chat.tokenizer, chat.own_template, only(questions, [GRADE_QUESTION]), embed=False)
    return Grader(question=questions.named(GRADE_QUESTION), queries=tagger.answer)


@dataclass(frozen=True, kw_only=True)
class AnswerSampler:
    """Samples and grades responses."""

    chat: ChatModel
    sampling: Sampling
    limit: int
    """Maximum tokens of a response, stop token included."""
    seed: int
    grader: Grader | None = None

    def request(self, prompt: Sequence[int], row: int, number: int) -> Request:
        """Engine request for one response; its result is an `Answer`."""
        sample = self.chat.response(self.limit, self.sampling, salt=number)
        return Request(program=self._program(tuple(prompt), sample, row, number), seed=row_seed(self.seed, row))

    def _program(self, prompt: tuple[int, ...], sample: Sample, row: int, number: int) -> Program:
        chat = self.chat
        yield Given(prompt)
        written: Written = yield sample
        text = chat.text(written)
        flaw, grade = flaw_of(written, text, chat.response_ends), None
        if flaw is None and self.grader is not None:
            yield from end_turn(written.stop_token, chat.response_end)
            grade = self.grader.grade((yield self.grader.queries))
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
    sampler: AnswerSampler, prompts: Sequence[Sequence[Message]], count: int, journal: Journal
) -> Iterator[Answer]:
    """Sample the responses that the journal lacks, `count` per prompt in all; append and yield each as it finishes.

    Prompts that the template refuses get no responses.
    """
    known = read_answers(journal.path, sampler)
    for answer in sampler.chat.run(_requests(sampler, prompts, count, known)):
        journal.append(asdict(answer))
        yield answer


def _requests(
    sampler: AnswerSampler, prompts: Sequence[Sequence[Message]], count: int, known: Collection[tuple[int, int]]
) -> Iterator[Request]:
    """Yield requests one by one, so that a large dataset's tokens are never all in memory."""
    for row, messages in enumerate(prompts):
        missing = [number for number in range(count) if (row, number) not in known]
        prompt = sampler.chat.prompt(messages) if missing else None
        if prompt is not None:
            yield from (sampler.request(prompt, row, number) for number in missing)


def read_answers(path: Path, sampler: AnswerSampler) -> dict[tuple[int, int], Answer]:
    """The journal's responses that `sampler` would reproduce, by row and number.

    A complete response stays the same under a higher token limit: only truncated responses are sampled again, and
    those without a grade if grades are needed.

    Raises UserError with `file:line` for a malformed line.
    """
    answers = read_lines(path, lambda record: Answer(**record))
    return {(answer.row, answer.number): answer for answer in answers if _is_reusable(answer, sampler)}


def _is_reusable(answer: Answer, sampler: AnswerSampler) -> bool:
    if sampler.grader is not None and not answer.graded:
        return False
    # The stop token counts towards the limit.
    limit = sampler.limit
    return answer.tokens == limit if answer.flaw == "limit" else answer.tokens < limit
