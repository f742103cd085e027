"""Accepted Magpie rows per hour compared with pipelines on mlx-lm, with the same weights.

Three sides end with the same number of accepted rows, judged by the same code:

* ours: `make_dataset`, which screens an instruction before it generates the response;
* mlx-lm in two stages, as Magpie's scripts do it: all instructions in batches, all responses in batches, then the tags,
  each generated as a short text after the conversation, and the filters last;
* mlx-lm serially, one text at a time, as notebooks do it: timed on a few rows, extrapolated to the yield of the stages.

A generated tag that is not one of the labels does not reject a row.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlx_suite.curation.tags.tagging import Tag, only, questions_for
from mlx_suite.data.questions import Questions
from mlx_suite.magpie.judge import Judge, instruction_problem, response_problem
from mlx_suite.magpie.manifest import read_manifest
from mlx_suite.magpie.plan import RowPlan, plan_rows
from mlx_suite.magpie.records import Draft, Ending
from mlx_suite.magpie.run import make_dataset
from mlx_suite.magpie.sanitiser.sanitise import sanitise
from mlx_suite.magpie.settings import MagpieSettings
from mlx_suite.text import ChatTemplate, Tokenizer

from .writers import ROWS, BenchWriter, Text

ROUND = 128
"""Largest number of rows that the stages process at a time."""
MAX_ROUNDS = 60
"""Number of rounds after which a side gives up."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """Criteria for accepting rows, and the tags they need."""

    name: str
    tags: tuple[str, ...] = ()
    settings: Mapping[str, Any]
    """Fields of `MagpieSettings` that differ from the defaults."""

    def settings_for(self, count: int, batch: int, *, steer: bool, seed: int = 0) -> MagpieSettings:
        """Settings of one run."""
        return MagpieSettings(
            count=count,
            batch=batch,
            seed=seed,
            steer=steer,
            tags=bool(self.tags),
            embeddings=False,
            unsafe="keep",
            max_instruction=256,
            max_answer=256,
            **self.settings,
        )


GOOD = {"min_input_quality": "good", "min_answer_quality": "good"}
TARGETS = (
    Target(name="complete, no duplicates", settings={}),
    Target(name="and tagged good", tags=("input_quality", "answer_quality"), settings=GOOD),
    Target(
        name="and of three categories",
        tags=("category", "input_quality", "answer_quality"),
        settings=GOOD | {"quotas": ("category:Math=0.34,Coding & Debugging=0.33,Reasoning=0.33",)},
    ),
)


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Rows and costs of one side."""

    side: str
    accepted: float
    asked: float
    seconds: float
    prefilled: float
    """Tokens fed, queries included."""
    decoded: float

    @property
    def per_hour(self) -> float:
        """Accepted rows per hour."""
        return self.accepted / self.seconds * 3600


@dataclass(frozen=True, kw_only=True)
class BenchCheckpoint:
    """The same weights, loaded by both sides."""

    ours: Any
    theirs: Any
    tokenizer: Tokenizer
    template: ChatTemplate


def our_pace(checkpoint: BenchCheckpoint, target: Target, settings: MagpieSettings, side: str) -> Pace:
    """Fill a folder with `make_dataset`."""
    tokenizer = checkpoint.tokenizer
    with TemporaryDirectory() as parent:
        folder = Path(parent) / "rows"
        began = time.perf_counter()
        summary = make_dataset(
            checkpoint.ours, tokenizer, checkpoint.template, settings, folder, questions=_questions(tokenizer, target)
        )
        seconds = time.perf_counter() - began
        stored = read_manifest(folder)
    assert stored is not None
    work = stored["work"]
    fed = sum(each["prefilled"] + each["fed"] + each["screening"] + each["grading"] for each in work)
    return Pace(
        side=side,
        accepted=summary.accepted,
        asked=summary.decided,
        seconds=seconds,
        prefilled=fed,
        decoded=sum(each["sampled"] for each in work),
    )


def staged_pace(checkpoint: BenchCheckpoint, target: Target, settings: MagpieSettings, writer: BenchWriter) -> Pace:
    """Generate rounds of all instructions, all responses and all tags, then filter."""
    plan = _plan(checkpoint, target, settings)
    judge = Judge(plan)
    began = time.perf_counter()
    asked = 0
    for _ in range(MAX_ROUNDS):
        size = round_size(settings.count - len(judge.keys), len(judge.keys), asked)
        for draft in write_round(writer, plan, range(asked, asked + size)):
            judge.decide(draft)
            asked += 1
            if len(judge.keys) == settings.count:
                break
        if len(judge.keys) == settings.count:
            break
    return Pace(
        side="mlx-lm, two stages",
        accepted=len(judge.keys),
        asked=asked,
        seconds=time.perf_counter() - began,
        prefilled=writer.prefilled,
        decoded=writer.decoded,
    )


def round_size(missing: int, accepted: int, asked: int) -> int:
    """Number of rows needed at the yield so far (100 % at first), so that no surplus rows are charged."""
    if not asked:
        return min(ROUND, missing)
    return min(ROUND, max(ROWS, -(-missing * asked // accepted))) if accepted else ROUND


def serial_pace(
    checkpoint: BenchCheckpoint, target: Target, settings: MagpieSettings, writer: BenchWriter, rows: int, staged: Pace
) -> Pace:
    """Time `rows` rows one at a time and extrapolate to the yield of the stages."""
    plan = _plan(checkpoint, target, settings)
    began = time.perf_counter()
    for index in range(rows):
        for _ in write_round(writer, plan, range(index, index + 1)):
            pass
    seconds = time.perf_counter() - began
    factor = staged.asked / rows
    return Pace(
        side="mlx-lm, serial",
        accepted=staged.accepted,
        asked=staged.asked,
        seconds=seconds * factor,
        prefilled=writer.prefilled * factor,
        decoded=writer.decoded * factor,
    )


def write_round(writer: BenchWriter, plan: RowPlan, indices: Sequence[int]) -> list[Draft]:
    """Generate drafts with instruction, response and tags."""
    settings, pre_query = plan.settings, plan.pre_query
    limits = [settings.max_instruction] * len(indices)
    texts = writer([pre_query.header_ids] * len(indices), limits, settings.temperature)
    drafts = [_draft(plan, index, text) for index, text in zip(indices, texts, strict=True)]
    valid = [number for number, draft in enumerate(drafts) if instruction_problem(plan, draft) is None]
    user_turns = {
        number: (*pre_query.header_ids, *_instruction_ids(plan, drafts[number], texts[number]), plan.user_end)
        for number in valid
    }
    prompts = [(*user_turns[number], *pre_query.to_assistant_ids) for number in valid]
    answers = writer(prompts, [settings.max_answer] * len(valid), settings.answer_temperature)
    for number, answer in zip(valid, answers, strict=True):
        text = plan.tokenizer.decode(answer.tokens).strip()
        drafts[number] = replace(drafts[number], response=text, response_end=_ending(answer))
    if plan.tagger is None:
        return drafts
    answered = [number for number in valid if response_problem(plan, drafts[number]) is None]
    texts_so_far = (prompt + answer.tokens for prompt, answer in zip(prompts, answers, strict=True))
    prefixes = dict(zip(valid, texts_so_far, strict=True))
    end = pre_query.assistant_stop_ids[0]
    about_instruction = _tags(writer, plan, "instruction", [user_turns[number] for number in answered])
    about_answer = _tags(writer, plan, "answer", [(*prefixes[number], end) for number in answered])
    for number, tags, grades in zip(answered, about_instruction, about_answer, strict=True):
        drafts[number] = replace(drafts[number], tags=tags, response_tags=grades)
    return drafts


def _tags(writer: BenchWriter, plan: RowPlan, part: Any, rows: Sequence[Sequence[int]]) -> list[dict[str, Tag]]:
    """Generate a tag for each question; texts that are not a label are dropped."""
    assert plan.tagger is not None and plan.questions is not None
    found: list[dict[str, Tag]] = [{} for _ in rows]
    queries = plan.tagger.instruction.queries if part == "instruction" else plan.tagger.answer.queries
    for question, query in zip(plan.questions.about(part), queries, strict=True):
        longest = max(len(plan.tokenizer.encode(label)) for label in question.labels) + 1
        texts = writer([(*row, *query.tokens) for row in rows], [longest] * len(rows), 0.0)
        for tags, text in zip(found, texts, strict=True):
            label = plan.tokenizer.decode(text.tokens).strip()
            if label in question.labels:
                tags[question.name] = Tag(label=label, confidence=1.0)
    return [tags or {"": Tag(label="", confidence=0.0)} for tags in found]


def _draft(plan: RowPlan, index: int, text: Text) -> Draft:
    raw = plan.tokenizer.decode(text.tokens).strip()
    cleaned = sanitise(raw)
    return Draft(index=index, raw=raw, instruction=cleaned.text, removed=cleaned.removed, instruction_end=_ending(text))


def _instruction_ids(plan: RowPlan, draft: Draft, text: Text) -> Sequence[int]:
    return text.tokens if draft.instruction == draft.raw else plan.tokenizer.encode(draft.instruction)


def _ending(text: Text) -> Ending:
    return Ending(reason="limit" if text.stop is None else "stop", stop=text.stop, tokens=len(text.tokens))


def _plan(checkpoint: BenchCheckpoint, target: Target, settings: MagpieSettings) -> RowPlan:
    questions = _questions(checkpoint.tokenizer, target)
    return plan_rows(checkpoint.ours, checkpoint.tokenizer, checkpoint.template, settings, questions)


def _questions(tokenizer: Tokenizer, target: Target) -> Questions | None:
    """Tagging questions that the target needs, the same for all sides."""
    if not target.tags:
        return None
    return only(questions_for(Path(tokenizer.origin)), target.tags)
