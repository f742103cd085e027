"""Screening before responding at realistic lengths: random weights, given lengths, a given share of good rows.

Responses of the microworld are as short as its instructions. Magpie's are many times longer and take 97 % of a run
(arXiv 2406.08464, section 3.4), and about a third of its rows pass filter F5 of its Table 5 (338 thousand of a
million). Each row's outcome is drawn in advance, so both sides accept the same rows, and each side computes every
token that it would prefill, sample or score.

Our side generates an instruction, queries it on a fork of the KV cache, responds only if it passes, and queries the
response. The other side is mlx-lm's batch generation: all instructions, all responses, all tags, then the filters.
"""

import random
import time
from dataclasses import dataclass
from typing import Any

from mlx_suite.engine import Engine, Given, Program, Queries, Query, Request, Sample, Sampling

from .writers import BenchWriter


@dataclass(frozen=True, kw_only=True)
class RunShape:
    """Number of rows, lengths in tokens, and rejection rates of a run."""

    rows: int = 96
    """Rows generated."""
    slots: int = 16
    header: int = 6
    instruction: int = 30
    """Mean length; lengths are uniform between 0.5 and 1.5 times the mean."""
    answer: int = 240
    question: int = 60
    """Tokens of one tag question."""
    instruction_questions: int = 5
    answer_questions: int = 1
    label: int = 3
    """Tokens of a label, which mlx-lm has to generate."""
    screened_out: float = 0.55
    """Share of instructions that screening rejects."""
    graded_out: float = 0.25
    """Share of responses that grading rejects; 34 % of all rows are accepted."""


@dataclass(frozen=True, kw_only=True)
class Fate:
    """Lengths and outcome of a row, drawn in advance."""

    instruction: int
    answer: int
    screened_out: bool
    graded_out: bool

    @property
    def kept(self) -> bool:
        return not (self.screened_out or self.graded_out)


@dataclass(frozen=True, kw_only=True)
class ShapeCost:
    """Cost of one side on the given rows."""

    seconds: float
    kept: int
    prefilled: int
    """Tokens fed, queries included."""
    decoded: int


def draw_fates(shape: RunShape, seed: int) -> list[Fate]:
    """Draw the rows of a run."""
    rng = random.Random(seed)

    def length(mean: int) -> int:
        return rng.randint(mean // 2, mean + mean // 2)

    return [
        Fate(
            instruction=length(shape.instruction),
            answer=length(shape.answer),
            screened_out=rng.random() < shape.screened_out,
            graded_out=rng.random() < shape.graded_out,
        )
        for _ in range(shape.rows)
    ]


def our_cost(model: Any, shape: RunShape, fates: list[Fate]) -> ShapeCost:
    """Run the rows as programs that screen before they respond."""
    longest = 2 * (shape.instruction + shape.answer + shape.question) + shape.header
    engine = Engine(model, slots=shape.slots, context=longest)
    start = time.perf_counter()
    for _ in engine.run(Request(program=_row(shape, fate), seed=seed) for seed, fate in enumerate(fates)):
        pass
    counts = engine.stats
    return ShapeCost(
        seconds=time.perf_counter() - start,
        kept=sum(fate.kept for fate in fates),
        prefilled=counts.prefilled + counts.forced + counts.queried,
        decoded=counts.sampled,
    )


def their_cost(writer: BenchWriter, shape: RunShape, fates: list[Fate]) -> ShapeCost:
    """Instructions, responses and tags in batches over all rows; filters afterwards."""
    header = list(range(shape.header))
    start = time.perf_counter()
    instructions = _written(writer, [header] * len(fates), [fate.instruction for fate in fates], 1.0)
    asked = [header + each + header for each in instructions]
    answers = _written(writer, asked, [fate.answer for fate in fates], 0.0)
    question = list(range(shape.question))
    for _ in range(shape.instruction_questions):
        _written(writer, [each + question for each in asked], [shape.label] * len(fates), 0.0)
    answered = [one + other for one, other in zip(asked, answers, strict=True)]
    for _ in range(shape.answer_questions):
        _written(writer, [each + question for each in answered], [shape.label] * len(fates), 0.0)
    return ShapeCost(
        seconds=time.perf_counter() - start,
        kept=sum(fate.kept for fate in fates),
        prefilled=writer.prefilled,
        decoded=writer.decoded,
    )


def _written(writer: BenchWriter, prompts: list[list[int]], limits: list[int], temperature: float) -> list[list[int]]:
    return [list(text.tokens) for text in writer(prompts, limits, temperature)]


def _row(shape: RunShape, fate: Fate) -> Program:
    header = tuple(range(shape.header))
    yield Given(header)
    yield Sample(limit=fate.instruction, stop=frozenset(), sampling=Sampling(temperature=1.0))
    yield _tag_queries(shape, shape.instruction_questions)
    if fate.screened_out:
        return
    yield Given(header)
    yield Sample(limit=fate.answer, stop=frozenset(), sampling=Sampling(temperature=0.0))
    yield _tag_queries(shape, shape.answer_questions)


def _tag_queries(shape: RunShape, questions: int) -> Queries:
    labels = tuple((label,) for label in range(10, 22))
    return Queries(tuple(Query(tokens=tuple(range(shape.question)), labels=labels) for _ in range(questions)))
