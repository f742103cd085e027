"""One row of a run, as a program for the engine.

The idea of the paper (arXiv 2406.08464): an aligned model that is given only the header of a user turn writes an
instruction; given the header of its own turn, it responds. With `model`, `tokenizer`, `template` and `questions`:

    def row(parts, tagger):
        yield Given(parts.header_ids)
        instruction = yield Sample(limit=512, stop=frozenset(parts.user_stop_ids))
        tags = tagger.instruction_tags((yield tagger.instruction))
        yield Given(parts.to_assistant_ids)
        greedy = Sampling(temperature=0.0)
        response = yield Sample(limit=2048, stop=frozenset(parts.assistant_stop_ids), sampling=greedy)
        return instruction.tokens, tags, response.tokens, tagger.answer_tags((yield tagger.answer))

    parts, tagger = derive_pre_query(tokenizer, template), make_tagger(tokenizer, template, questions, embed=False)
    requests = (Request(program=row(parts, tagger), seed=seed) for seed in range(8))
    rows = [done.result for done in Engine(model).run(requests)]

The real program adds what makes this affordable and clean: a row ends as soon as its rejection is certain, because
responses cost most of a run; the instruction is sanitised; and further turns may follow. The header is prefilled once
per run and shared by all rows that have it.

A steering prompt is in the sequence only while the instruction is sampled. Then the sequence is rewound to the plain
header, so the instruction is tagged and answered as if it had not been steered: the dataset does not contain the
prompt either.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from mlx_suite.curation.duplicates.neighbours import Neighbours
from mlx_suite.engine import Given, Mark, Program, Request, Rewind, Written
from mlx_suite.engine.prefix_cache import shared_prefix
from mlx_suite.magpie.plan import RowPlan, row_seed
from mlx_suite.magpie.records import Draft, Exchange, ending_of
from mlx_suite.magpie.steering import Steer
from mlx_suite.magpie.turns import end_turn, further_turns, without_reasoning

IsCertainReject = Callable[[Draft], bool]
"""Called with an unfinished draft; True if its rejection is certain."""


def row_request(plan: RowPlan, index: int, steer: Steer, is_certain_reject: IsCertainReject) -> Request:
    """The engine's request for one row. Its result is a `Draft`."""

    def program() -> Program:
        return _program(plan, index, steer, is_certain_reject)

    return Request(program=program(), seed=row_seed(plan.settings.seed, index), renew=program)


def _program(plan: RowPlan, index: int, steer: Steer, is_certain_reject: IsCertainReject) -> Program:
    settings, tagger = plan.settings, plan.tagger
    setting, header = settings.setting_of(index), plan.header(steer)
    yield Given(header)
    sampled: Written = yield plan.instruction_sample(setting)
    raw = plan.decode(sampled.tokens)
    cleaned = plan.clean(raw)
    draft = Draft(
        index=index,
        raw=raw,
        instruction=cleaned.text,
        instruction_end=ending_of(sampled),
        removed=cleaned.removed,
        steer=steer,
        sampling=setting,
    )
    if is_certain_reject(draft):
        return draft

    plain = plan.pre_query.header_ids
    # A sequence cannot be rewound to nothing: if the headers share no first token, the steered one stays.
    kept = shared_prefix(header, plain)
    kept, rest = (kept, plain[kept:]) if kept else (len(header), ())
    if cleaned.text != raw or kept < len(header):
        turn = (*sampled.tokens, plan.user_end) if cleaned.text == raw else plan.user_turn(cleaned.text)
        yield Rewind(kept)
        yield Given((*rest, *turn))

    if tagger is not None and tagger.instruction.queries:
        replies = yield tagger.instruction
        vector = tagger.embedding(replies)
        embedding = None if vector is None else Neighbours(len(vector)).stored(vector).astype(np.float32)
        draft = replace(draft, tags=tagger.instruction_tags(replies), embedding=embedding)
        if is_certain_reject(draft):
            return draft

    start = yield Mark()
    yield Given(plan.pre_query.to_assistant_ids)
    responded: Written = yield plan.response_sample
    reasoning, response = plan.answer_of(responded.tokens)
    draft = replace(draft, response=response, reasoning=reasoning, response_end=ending_of(responded))
    if is_certain_reject(draft):
        return draft

    responded = yield from without_reasoning(plan, start, responded, response)
    yield from end_turn(responded.stop_token, plan.assistant_end)
    if tagger is not None and tagger.answer.queries:
        draft = replace(draft, response_tags=tagger.answer_tags((yield tagger.answer)))
        if is_certain_reject(draft):
            return draft

    if settings.turns > 1:
        first = Exchange(
            instruction=draft.instruction,
            raw=raw,
            instruction_end=draft.instruction_end,
            response=draft.response,
            reasoning=draft.reasoning,
            response_end=ending_of(replace(responded, stop_token=plan.assistant_end)),
        )
        turns, ended = yield from further_turns(plan, setting, first)
        draft = replace(draft, turns=turns, turns_ended=ended)
    return draft
