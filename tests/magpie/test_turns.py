"""Later turns: the headers between them, rewinding after drift, and a conversation that ends early."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mlx_suite import load
from mlx_suite.curation.tags.tagging import make_tagger
from mlx_suite.engine import Engine, Given, Program, Queries, Query, Request, Sample, Sampling, Written
from mlx_suite.magpie.drift import REPLY, ROLE_QUESTIONS, flaw_of
from mlx_suite.magpie.turns import Conversation, Turn, further_turns
from mlx_suite.text import Message, PreQuery, derive_pre_query, encode_chat, load_chat_template
from tests.engine.scripted import STOP, ScriptedModel, fed

GREEDY = Sampling(temperature=0.0)
WORDS = {10: "who", 11: "is", 12: "ben", 20: "a", 21: "nurse", 30: "why", 31: "so", 40: "he", 41: "cares", 50: "thanks"}
HEADER, TO_ASSISTANT, TO_USER, OTHER_END = 5, 6, 7, 1
FIRST = Turn(
    instruction="who is ben",
    instruction_written=Written(tokens=(10, 11, 12), reason="stop", stop_token=STOP),
    response="a nurse",
    response_written=Written(tokens=(20, 21), reason="stop", stop_token=STOP),
)
START = (HEADER, 10, 11, 12, STOP, TO_ASSISTANT, 20, 21, STOP)


def conversation(**changes: Any) -> Conversation:
    tokenizer = SimpleNamespace(decode=lambda ids: " ".join(WORDS.get(index, "?") for index in ids))
    sample = Sample(limit=8, stop=frozenset({STOP, OTHER_END}), sampling=GREEDY)
    pre_query = PreQuery(
        header_ids=(HEADER,),
        user_stop_ids=(STOP, OTHER_END),
        to_assistant_ids=(TO_ASSISTANT,),
        to_user_ids=(TO_USER,),
        assistant_stop_ids=(STOP, OTHER_END),
    )
    fields = {
        "turns": 2,
        "instruction_sample": sample,
        "response_sample": sample,
        "pre_query": pre_query,
        "tokenizer": cast(Any, tokenizer),
        "response_ends": frozenset({STOP, OTHER_END}),
        "clean": lambda text: text,
        "encode": lambda text: [next(index for index, word in WORDS.items() if word == each) for each in text.split()],
    }
    return Conversation(**(fields | changes))


def run(model: Any, plan: Conversation, first: Turn = FIRST, start: tuple[int, ...] = START) -> tuple[Any, Engine]:
    def program() -> Program:
        yield Given(start)
        return (yield from further_turns(plan, first))

    engine = Engine(model, slots=1, context=64)
    (done,) = engine.run([Request(program=program(), seed=3)])
    return done.result, engine


def test_later_turns_follow_in_the_same_slot_after_the_templates_headers() -> None:
    script = {TO_USER: 30, 30: 31, 31: STOP, TO_ASSISTANT: 40, 40: 41, 41: STOP}
    (turns, drift), engine = run(ScriptedModel(script), conversation())
    assert drift is None
    assert [(turn.instruction, turn.response, turn.raw_instruction) for turn in turns] == [("why so", "he cares", None)]
    sequence = (*START, TO_USER, 30, 31, STOP, TO_ASSISTANT, 40, 41)
    assert fed(engine, 0, len(sequence)) == list(sequence)
    assert engine.stats.prefilled == len(START)


def test_a_single_turn_generates_nothing() -> None:
    (turns, drift), engine = run(ScriptedModel({}), conversation(turns=1))
    assert (turns, drift) == ((), None)
    assert engine.stats.sampled == 0


def test_a_turn_that_drifts_is_sampled_again_from_other_random_numbers() -> None:
    script: dict[int, Any] = {TO_USER: {30: 0.5, 50: 0.5}, 30: 31, 31: STOP, 50: STOP, TO_ASSISTANT: 40, 40: 41}
    drawn = replace(conversation().instruction_sample, sampling=Sampling(temperature=1.0))
    found = []
    for salt in range(8):
        plan = conversation(instruction_sample=replace(drawn, salt=salt), tries=1)
        (turns, drift), _ = run(ScriptedModel(script), plan)
        found.append(drift or turns[0].instruction)
    assert set(found) == {"why so", "thanks"}
    first = found.index("thanks")
    later = found.index("why so", first)
    plan = conversation(instruction_sample=replace(drawn, salt=first), tries=later - first + 1)
    (turns, drift), engine = run(ScriptedModel(script), plan)
    assert (drift, [turn.instruction for turn in turns]) == (None, ["why so"])
    sequence = (*START, TO_USER, 30, 31, STOP, TO_ASSISTANT, 40, 41)
    assert fed(engine, 0, len(sequence)) == list(sequence)


def test_after_drift_the_conversation_and_its_sequence_end_with_the_turns_kept() -> None:
    def program(plan: Conversation) -> Program:
        yield Given(START)
        found = yield from further_turns(plan, FIRST)
        (reply,) = yield Queries((Query(tokens=(TO_USER,), labels=((50,), (30,))),))
        return found, reply.index

    engine = Engine(ScriptedModel({TO_USER: 50, 50: STOP}), slots=1, context=64)
    (done,) = engine.run([Request(program=program(conversation(turns=3)))])
    assert done.result == (((), "thanks"), 0)
    assert fed(engine, 0, len(START)) == list(START)
    # Greedy sampling is not retried.
    assert engine.stats.sampled == 2


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ({TO_USER: 30, 30: 30}, "limit"),
        ({TO_USER: STOP}, "empty"),
        ({TO_USER: OTHER_END}, "stop"),
        ({TO_USER: 10, 10: 11, 11: 12, 12: STOP}, "repeat"),
        ({TO_USER: 20, 20: 21, 21: STOP}, "echo"),
        ({TO_USER: 30, 30: STOP, TO_ASSISTANT: 40, 40: 40}, "answer_limit"),
        ({TO_USER: 30, 30: STOP, TO_ASSISTANT: STOP}, "answer_empty"),
    ],
)
def test_the_reason_a_conversation_ended_is_returned(script: dict[int, int], reason: str) -> None:
    (turns, drift), _ = run(ScriptedModel(script), conversation())
    assert (turns, drift) == ((), reason)


def test_the_end_of_the_context_ends_a_conversation() -> None:
    def program() -> Program:
        yield Given(START)
        return (yield from further_turns(conversation(), FIRST))

    engine = Engine(ScriptedModel({TO_USER: 30}), slots=1, context=len(START) + 1)
    (done,) = engine.run([Request(program=program())])
    assert done.result == ((), "context")


def test_a_sanitised_turn_replaces_the_sampled_one() -> None:
    script = {TO_USER: 50, 50: 30, 30: 31, 31: STOP, TO_ASSISTANT: 40, 40: 41, 41: STOP}
    (turns, drift), engine = run(ScriptedModel(script), conversation(clean=lambda text: text.removeprefix("thanks ")))
    assert drift is None
    assert [(turn.raw_instruction, turn.instruction) for turn in turns] == [("thanks why so", "why so")]
    sequence = (*START, TO_USER, 30, 31, STOP, TO_ASSISTANT, 40, 41)
    assert fed(engine, 0, len(sequence)) == list(sequence)


def test_a_response_that_ended_with_another_stop_token_gets_the_templates() -> None:
    script = {TO_USER: 30, 30: STOP, TO_ASSISTANT: 40, 40: STOP}
    first = replace(FIRST, response_written=replace(FIRST.response_written, stop_token=OTHER_END))
    (turns, _), engine = run(ScriptedModel(script), conversation(), first, (*START[:-1], OTHER_END))
    assert len(turns) == 1
    sequence = (*START, TO_USER, 30, STOP, TO_ASSISTANT, 40)
    assert fed(engine, 0, len(sequence)) == list(sequence)


@pytest.mark.parametrize(("label", "reason"), [(60, None), (61, "reply")])
def test_the_role_question_catches_what_no_rule_does(label: int, reason: str | None) -> None:
    role = Queries((Query(tokens=(8,), labels=((60,), (61,))),))
    script = {TO_USER: 30, 30: STOP, TO_ASSISTANT: 40, 40: STOP, 8: label}
    (turns, drift), engine = run(ScriptedModel(script), conversation(role=role))
    assert (len(turns), drift) == (0 if reason else 1, reason)
    assert engine.stats.queried == 1


@pytest.mark.parametrize("name", ["tiny-llama3", "tiny-gemma2"])
def test_conversations_of_the_shipped_models_equal_what_their_templates_render(name: str) -> None:
    folder = Path(__file__).parents[2] / "models" / name
    model, tokenizer = load(folder)
    template = load_chat_template(folder)
    pre_query = derive_pre_query(tokenizer, template)
    stop = frozenset(pre_query.user_stop_ids)
    asking = Sample(limit=64, stop=stop)
    answering = Sample(limit=64, stop=frozenset(pre_query.assistant_stop_ids), sampling=GREEDY)
    role = make_tagger(tokenizer, template, ROLE_QUESTIONS, embed=False).instruction
    assert len(role.queries[0].labels) == REPLY + 1
    plan = conversation(
        turns=3,
        instruction_sample=asking,
        response_sample=answering,
        pre_query=pre_query,
        tokenizer=tokenizer,
        response_ends=frozenset(pre_query.assistant_stop_ids[:1]),
    )

    def program() -> Program:
        yield Given(pre_query.header_ids)
        asked = yield asking
        yield Given(pre_query.to_assistant_ids)
        answered = yield answering
        texts = [tokenizer.decode(each.tokens).strip() for each in (asked, answered)]
        if flaw_of(asked, texts[0], stop) or flaw_of(answered, texts[1], plan.response_ends):
            return ()
        first = Turn(instruction=texts[0], instruction_written=asked, response=texts[1], response_written=answered)
        turns, _ = yield from further_turns(plan, first)
        return (first, *turns)

    engine = Engine(model, slots=4, context=512)
    found = [done.result for done in engine.run(Request(program=program(), seed=seed) for seed in range(8))]
    assert sum(len(turns) == 3 for turns in found) >= 4
    for turns in found:
        messages, ids = [], list(pre_query.header_ids)
        for turn in turns:
            messages += [Message("user", turn.instruction), Message("assistant", turn.response)]
            ids += [*turn.instruction_written.tokens, pre_query.user_stop_ids[0], *pre_query.to_assistant_ids]
            ids += [*turn.response_written.tokens, pre_query.assistant_stop_ids[0], *pre_query.to_user_ids]
        generated = tokenizer.decode(ids[: len(ids) - len(pre_query.to_user_ids)], skip_special=False)
        rendered = tokenizer.decode(encode_chat(tokenizer, template, messages).ids, skip_special=False)
        assert "".join(generated.split()) == "".join(rendered.split()) or not turns
