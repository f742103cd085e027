"""More turns: the headers between them, drift taken back, and a conversation that ends with what it has."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mlx_suite import load
from mlx_suite.curation.tags.tagging import make_tagger
from mlx_suite.engine import Aside, Engine, Given, Program, Query, Request, Sample, Sampling, Written
from mlx_suite.magpie.conversation.drift import REPLY, ROLE_QUESTIONS
from mlx_suite.magpie.conversation.endings import flaw_of
from mlx_suite.magpie.conversation.turns import Talk, Turn, further_turns
from mlx_suite.text import Message, PreQuery, derive_pre_query, encode_chat, load_chat_template
from tests.engine.scripted import STOP, ScriptedModel, fed

GREEDY = Sampling(temperature=0.0)
WORDS = {10: "who", 11: "is", 12: "ben", 20: "a", 21: "nurse", 30: "why", 31: "so", 40: "he", 41: "cares", 50: "thanks"}
HEADER, TO_ASSISTANT, TO_USER, OTHER_END = 5, 6, 7, 1
FIRST = Turn(
    instruction="who is ben",
    asked=Written(tokens=(10, 11, 12), reason="stop", stop_token=STOP),
    answer="a nurse",
    answered=Written(tokens=(20, 21), reason="stop", stop_token=STOP),
)
BEGUN = (HEADER, 10, 11, 12, STOP, TO_ASSISTANT, 20, 21, STOP)


def talk(**changes: Any) -> Talk:
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
        "asking": sample,
        "answering": sample,
        "pre_query": pre_query,
        "tokenizer": cast(Any, tokenizer),
        "answer_ends": frozenset({STOP, OTHER_END}),
        "clean": lambda text: text,
        "encode": lambda text: [next(index for index, word in WORDS.items() if word == each) for each in text.split()],
    }
    return Talk(**(fields | changes))


def go_on(model: Any, plan: Talk, first: Turn = FIRST, begun: tuple[int, ...] = BEGUN) -> tuple[Any, Engine]:
    def program() -> Program:
        yield Given(begun)
        return (yield from further_turns(plan, first, len(begun)))

    engine = Engine(model, slots=1, context=64)
    (done,) = engine.run([Request(program=program(), seed=3)])
    return done.result, engine


def test_the_next_turns_follow_in_the_same_slot_behind_the_templates_own_headers() -> None:
    script = {TO_USER: 30, 30: 31, 31: STOP, TO_ASSISTANT: 40, 40: 41, 41: STOP}
    (turns, drift), engine = go_on(ScriptedModel(script), talk())
    assert drift is None
    assert [(turn.instruction, turn.answer, turn.raw_instruction) for turn in turns] == [("why so", "he cares", None)]
    said = (*BEGUN, TO_USER, 30, 31, STOP, TO_ASSISTANT, 40, 41)
    assert fed(engine, 0, len(said)) == list(said)
    assert engine.counts.prefilled == len(BEGUN)


def test_one_turn_asks_for_nothing() -> None:
    (turns, drift), engine = go_on(ScriptedModel({}), talk(turns=1))
    assert (turns, drift) == ((), None)
    assert engine.counts.sampled == 0


def test_drift_is_written_again_with_other_random_numbers() -> None:
    script: dict[int, Any] = {TO_USER: {30: 0.5, 50: 0.5}, 30: 31, 31: STOP, 50: STOP, TO_ASSISTANT: 40, 40: 41}
    drawn = replace(talk().asking, sampling=Sampling(temperature=1.0))
    found = []
    for salt in range(8):
        plan = talk(asking=replace(drawn, salt=salt), tries=1)
        (turns, drift), _ = go_on(ScriptedModel(script), plan)
        found.append(drift or turns[0].instruction)
    assert set(found) == {"why so", "thanks"}
    first = found.index("thanks")
    later = found.index("why so", first)
    plan = talk(asking=replace(drawn, salt=first), tries=later - first + 1)
    (turns, drift), engine = go_on(ScriptedModel(script), plan)
    assert (drift, [turn.instruction for turn in turns]) == (None, ["why so"])
    said = (*BEGUN, TO_USER, 30, 31, STOP, TO_ASSISTANT, 40, 41)
    assert fed(engine, 0, len(said)) == list(said)


def test_a_conversation_that_drifts_ends_with_the_turns_it_has_and_so_does_its_sequence() -> None:
    def program(plan: Talk) -> Program:
        yield Given(BEGUN)
        found = yield from further_turns(plan, FIRST, len(BEGUN))
        (reply,) = yield Aside((Query(tokens=(TO_USER,), labels=((50,), (30,))),))
        return found, reply.index

    engine = Engine(ScriptedModel({TO_USER: 50, 50: STOP}), slots=1, context=64)
    (done,) = engine.run([Request(program=program(talk(turns=3)))])
    assert done.result == (((), "thanks"), 0)
    assert fed(engine, 0, len(BEGUN)) == list(BEGUN)
    # What is most probable is not asked for again.
    assert engine.counts.sampled == 2


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
def test_what_ends_a_conversation_is_named(script: dict[int, int], reason: str) -> None:
    (turns, drift), _ = go_on(ScriptedModel(script), talk())
    assert (turns, drift) == ((), reason)


def test_the_end_of_the_context_ends_a_conversation() -> None:
    def program() -> Program:
        yield Given(BEGUN)
        return (yield from further_turns(talk(), FIRST, len(BEGUN)))

    engine = Engine(ScriptedModel({TO_USER: 30}), slots=1, context=len(BEGUN) + 1)
    (done,) = engine.run([Request(program=program())])
    assert done.result == ((), "context")


def test_a_cleaned_turn_takes_the_place_of_what_was_written() -> None:
    script = {TO_USER: 50, 50: 30, 30: 31, 31: STOP, TO_ASSISTANT: 40, 40: 41, 41: STOP}
    (turns, drift), engine = go_on(ScriptedModel(script), talk(clean=lambda text: text.removeprefix("thanks ")))
    assert drift is None
    assert [(turn.raw_instruction, turn.instruction) for turn in turns] == [("thanks why so", "why so")]
    said = (*BEGUN, TO_USER, 30, 31, STOP, TO_ASSISTANT, 40, 41)
    assert fed(engine, 0, len(said)) == list(said)


def test_an_answer_that_ended_with_another_token_gets_the_templates_own() -> None:
    script = {TO_USER: 30, 30: STOP, TO_ASSISTANT: 40, 40: STOP}
    first = replace(FIRST, answered=replace(FIRST.answered, stop_token=OTHER_END))
    (turns, _), engine = go_on(ScriptedModel(script), talk(), first, (*BEGUN[:-1], OTHER_END))
    assert len(turns) == 1
    said = (*BEGUN, TO_USER, 30, STOP, TO_ASSISTANT, 40)
    assert fed(engine, 0, len(said)) == list(said)


@pytest.mark.parametrize(("says", "reason"), [(60, None), (61, "reply")])
def test_the_role_question_sees_what_no_rule_does(says: int, reason: str | None) -> None:
    role = Aside((Query(tokens=(8,), labels=((60,), (61,))),))
    script = {TO_USER: 30, 30: STOP, TO_ASSISTANT: 40, 40: STOP, 8: says}
    (turns, drift), engine = go_on(ScriptedModel(script), talk(role=role))
    assert (len(turns), drift) == (0 if reason else 1, reason)
    assert engine.counts.aside == 1


@pytest.mark.parametrize("name", ["tiny-llama3", "tiny-gemma2"])
def test_conversations_of_the_shipped_models_are_what_their_templates_would_have_made(name: str) -> None:
    folder = Path(__file__).parents[3] / "models" / name
    model, tokenizer = load(folder)
    template = load_chat_template(folder)
    pre_query = derive_pre_query(tokenizer, template)
    stop = frozenset(pre_query.user_stop_ids)
    asking = Sample(limit=64, stop=stop)
    answering = Sample(limit=64, stop=frozenset(pre_query.assistant_stop_ids), sampling=GREEDY)
    role = make_tagger(tokenizer, template, ROLE_QUESTIONS, embed=False).instruction
    assert len(role.queries[0].labels) == REPLY + 1
    plan = talk(
        turns=3,
        asking=asking,
        answering=answering,
        pre_query=pre_query,
        tokenizer=tokenizer,
        answer_ends=frozenset(pre_query.assistant_stop_ids[:1]),
    )

    def program() -> Program:
        yield Given(pre_query.header_ids)
        asked = yield asking
        yield Given(pre_query.to_assistant_ids)
        answered = yield answering
        texts = [tokenizer.decode(each.tokens).strip() for each in (asked, answered)]
        if flaw_of(asked, texts[0], stop) or flaw_of(answered, texts[1], plan.answer_ends):
            return ()
        first = Turn(instruction=texts[0], asked=asked, answer=texts[1], answered=answered)
        length = sum(map(len, (pre_query.header_ids, asked.tokens, pre_query.to_assistant_ids, answered.tokens))) + 2
        turns, _ = yield from further_turns(plan, first, length)
        return (first, *turns)

    engine = Engine(model, slots=4, context=512)
    found = [done.result for done in engine.run(Request(program=program(), seed=seed) for seed in range(8))]
    assert sum(len(turns) == 3 for turns in found) >= 4
    for turns in found:
        messages, ids = [], list(pre_query.header_ids)
        for turn in turns:
            messages += [Message("user", turn.instruction), Message("assistant", turn.answer)]
            ids += [*turn.asked.tokens, pre_query.user_stop_ids[0], *pre_query.to_assistant_ids]
            ids += [*turn.answered.tokens, pre_query.assistant_stop_ids[0], *pre_query.to_user_ids]
        said = tokenizer.decode(ids[: len(ids) - len(pre_query.to_user_ids)], skip_special=False)
        written = tokenizer.decode(encode_chat(tokenizer, template, messages).ids, skip_special=False)
        assert "".join(said.split()) == "".join(written.split()) or not turns
