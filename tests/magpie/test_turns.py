"""Later turns: the headers between them, rewinding after drift, and a conversation that ends early."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mlx_suite import load
from mlx_suite.curation.tags.tagging import make_tagger
from mlx_suite.engine import Engine, Given, Program, Queries, Query, Request, Rewind, Sample, Sampling, Written
from mlx_suite.magpie.drift import REPLY, ROLE_QUESTIONS, flaw_of
from mlx_suite.magpie.plan import RowPlan, plan_rows
from mlx_suite.magpie.records import Ending, Exchange, ending_of
from mlx_suite.magpie.settings import MagpieSettings, SamplingSetting
from mlx_suite.magpie.turns import further_turns
from mlx_suite.text import Message, PreQuery, encode_chat, load_chat_template
from tests.engine.scripted import STOP, ScriptedModel, fed

GREEDY = Sampling(temperature=0.0)
WORDS = {10: "who", 11: "is", 12: "ben", 20: "a", 21: "nurse", 30: "why", 31: "so", 40: "he", 41: "cares", 50: "thanks"}
HEADER, TO_ASSISTANT, TO_USER, OTHER_END = 5, 6, 7, 1
FIRST = Exchange(
    instruction="who is ben",
    raw="who is ben",
    instruction_end=Ending(reason="stop", stop=STOP, tokens=3),
    response="a nurse",
    response_end=Ending(reason="stop", stop=STOP, tokens=2),
)
START = (HEADER, 10, 11, 12, STOP, TO_ASSISTANT, 20, 21, STOP)
SETTING = SamplingSetting(temperature=1.0)
SAMPLE = Sample(limit=8, stop=frozenset({STOP, OTHER_END}), sampling=GREEDY)


def words_plan(
    turns: int = 2,
    sample: Sample = SAMPLE,
    clean: Callable[[str], str] = str,
    role: Queries | None = None,
) -> RowPlan:
    """What `further_turns` needs of a plan, in a vocabulary of ten words."""
    ids = {word: index for index, word in WORDS.items()}
    plan = SimpleNamespace(
        settings=SimpleNamespace(turns=turns),
        pre_query=PreQuery(
            header_ids=(HEADER,),
            user_stop_ids=(STOP, OTHER_END),
            to_assistant_ids=(TO_ASSISTANT,),
            to_user_ids=(TO_USER,),
            assistant_stop_ids=(STOP, OTHER_END),
        ),
        user_end=STOP,
        assistant_end=STOP,
        response_ends=frozenset({STOP, OTHER_END}),
        instruction_sample=lambda setting: sample,
        response_sample=replace(sample, sampling=GREEDY),
        role=role,
        answer_of=lambda tokens: ("", " ".join(WORDS.get(index, "?") for index in tokens)),
        decode=lambda tokens: " ".join(WORDS.get(index, "?") for index in tokens),
        clean=lambda raw: SimpleNamespace(text=clean(raw)),
        user_turn=lambda text: (*(ids[word] for word in text.split()), STOP),
    )
    return cast(RowPlan, plan)


def run(
    model: Any, plan: RowPlan, first: Exchange = FIRST, start: tuple[int, ...] = START, tries: int = 3
) -> tuple[Any, Engine]:
    def program() -> Program:
        yield Given(start)
        return (yield from further_turns(plan, SETTING, first, tries))

    engine = Engine(model, slots=1, context=64)
    (done,) = engine.run([Request(program=program(), seed=3)])
    return done.result, engine


def test_later_turns_follow_in_the_same_slot_after_the_templates_headers() -> None:
    script = {TO_USER: 30, 30: 31, 31: STOP, TO_ASSISTANT: 40, 40: 41, 41: STOP}
    (turns, drift), engine = run(ScriptedModel(script), words_plan())
    assert drift is None
    assert [(turn.raw, turn.instruction, turn.response) for turn in turns] == [("why so", "why so", "he cares")]
    sequence = (*START, TO_USER, 30, 31, STOP, TO_ASSISTANT, 40, 41)
    assert fed(engine, 0, len(sequence)) == list(sequence)
    assert engine.stats.prefilled == len(START)


def test_a_single_turn_generates_nothing() -> None:
    (turns, drift), engine = run(ScriptedModel({}), words_plan(turns=1))
    assert (turns, drift) == ((), None)
    assert engine.stats.sampled == 0


def test_a_turn_that_drifts_is_sampled_again_from_other_random_numbers() -> None:
    script: dict[int, Any] = {TO_USER: {30: 0.5, 50: 0.5}, 30: 31, 31: STOP, 50: STOP, TO_ASSISTANT: 40, 40: 41}
    drawn = replace(SAMPLE, sampling=Sampling(temperature=1.0))
    found = []
    for salt in range(8):
        plan = words_plan(sample=replace(drawn, salt=salt))
        (turns, drift), _ = run(ScriptedModel(script), plan, tries=1)
        found.append(drift or turns[0].instruction)
    assert set(found) == {"why so", "thanks"}
    first = found.index("thanks")
    later = found.index("why so", first)
    plan = words_plan(sample=replace(drawn, salt=first))
    (turns, drift), engine = run(ScriptedModel(script), plan, tries=later - first + 1)
    assert (drift, [turn.instruction for turn in turns]) == (None, ["why so"])
    sequence = (*START, TO_USER, 30, 31, STOP, TO_ASSISTANT, 40, 41)
    assert fed(engine, 0, len(sequence)) == list(sequence)


def test_after_drift_the_conversation_and_its_sequence_end_with_the_turns_kept() -> None:
    def program(plan: RowPlan) -> Program:
        yield Given(START)
        found = yield from further_turns(plan, SETTING, FIRST)
        (reply,) = yield Queries((Query(tokens=(TO_USER,), labels=((50,), (30,))),))
        return found, reply.index

    engine = Engine(ScriptedModel({TO_USER: 50, 50: STOP}), slots=1, context=64)
    (done,) = engine.run([Request(program=program(words_plan(turns=3)))])
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
    (turns, drift), _ = run(ScriptedModel(script), words_plan())
    assert (turns, drift) == ((), reason)


def test_the_end_of_the_context_ends_a_words_plan() -> None:
    def program() -> Program:
        yield Given(START)
        return (yield from further_turns(words_plan(), SETTING, FIRST))

    engine = Engine(ScriptedModel({TO_USER: 30}), slots=1, context=len(START) + 1)
    (done,) = engine.run([Request(program=program())])
    assert done.result == ((), "context")


def test_a_sanitised_turn_replaces_the_sampled_one() -> None:
    script = {TO_USER: 50, 50: 30, 30: 31, 31: STOP, TO_ASSISTANT: 40, 40: 41, 41: STOP}
    (turns, drift), engine = run(ScriptedModel(script), words_plan(clean=lambda text: text.removeprefix("thanks ")))
    assert drift is None
    assert [(turn.raw, turn.instruction) for turn in turns] == [("thanks why so", "why so")]
    sequence = (*START, TO_USER, 30, 31, STOP, TO_ASSISTANT, 40, 41)
    assert fed(engine, 0, len(sequence)) == list(sequence)


def test_a_response_that_ended_with_another_stop_token_gets_the_templates() -> None:
    script = {TO_USER: 30, 30: STOP, TO_ASSISTANT: 40, 40: STOP}
    first = replace(FIRST, response_end=replace(FIRST.response_end, stop=OTHER_END))
    (turns, _), engine = run(ScriptedModel(script), words_plan(), first, (*START[:-1], OTHER_END))
    assert len(turns) == 1
    sequence = (*START, TO_USER, 30, STOP, TO_ASSISTANT, 40)
    assert fed(engine, 0, len(sequence)) == list(sequence)


@pytest.mark.parametrize(("label", "reason"), [(60, None), (61, "reply")])
def test_the_role_question_catches_what_no_rule_does(label: int, reason: str | None) -> None:
    role = Queries((Query(tokens=(8,), labels=((60,), (61,))),))
    script = {TO_USER: 30, 30: STOP, TO_ASSISTANT: 40, 40: STOP, 8: label}
    (turns, drift), engine = run(ScriptedModel(script), words_plan(role=role))
    assert (len(turns), drift) == (0 if reason else 1, reason)
    assert engine.stats.queried == 1


@pytest.mark.parametrize("name", ["tiny-llama3", "tiny-gemma2"])
def test_conversations_of_the_shipped_models_equal_what_their_templates_render(name: str) -> None:
    folder = Path(__file__).parents[2] / "models" / name
    model, tokenizer = load(folder)
    template = load_chat_template(folder)
    role = make_tagger(tokenizer, template, ROLE_QUESTIONS, embed=False).instruction
    assert len(role.queries[0].labels) == REPLY + 1
    settings = MagpieSettings(count=8, turns=3, max_instruction=64, max_answer=64, sanitise=False, tags=False)
    plan = plan_rows(model, tokenizer, template, settings)

    def conversation() -> Program:
        yield Given(plan.pre_query.header_ids)
        asked: Written = yield plan.instruction_sample(SETTING)
        yield Given(plan.pre_query.to_assistant_ids)
        responded: Written = yield plan.response_sample
        texts = [plan.decode(each.tokens) for each in (asked, responded)]
        if flaw_of(asked, texts[0], {plan.user_end}) or flaw_of(responded, texts[1], {plan.assistant_end}):
            return ()
        first = Exchange(
            instruction=texts[0],
            raw=texts[0],
            instruction_end=ending_of(asked),
            response=texts[1],
            response_end=ending_of(responded),
        )
        turns, _ = yield from further_turns(plan, SETTING, first)
        return (first, *turns)

    engine = Engine(model, slots=4, context=512)
    requests = (Request(program=with_tokens(conversation()), seed=seed) for seed in range(8))
    found = [done.result for done in engine.run(requests)]
    assert sum(len(turns) == 3 for turns, _ in found) >= 4
    for turns, tokens in found:
        messages = []
        for turn in turns:
            messages += [Message("user", turn.instruction), Message("assistant", turn.response)]
        generated = tokenizer.decode(tokens, skip_special=False)
        rendered = tokenizer.decode(encode_chat(tokenizer, template, messages).ids, skip_special=False) if turns else ""
        assert "".join(generated.split()) == "".join(rendered.split()) or not turns


def with_tokens(program: Program) -> Program:
    """The same program; returns its result and the tokens that its sequence ends with."""
    tokens: list[int] = []
    reply: Any = None
    while True:
        try:
            segment = program.send(reply)
        except StopIteration as end:
            return end.value, tokens
        reply = yield segment
        match segment:
            case Given():
                tokens += segment.tokens
            case Sample():
                tokens += [*reply.tokens, *([] if reply.stop_token is None else [reply.stop_token])]
            case Rewind():
                del tokens[segment.length :]
