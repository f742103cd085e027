"""Tokens of a stored response: scores by the real engine, and responses that branch at a token."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from mlx_suite.engine import Given, Program, Request, Sample, Sampling
from mlx_suite.engine.chat_model import ChatModel
from mlx_suite.serving.chat import TextDelta
from mlx_suite.serving.generation import Ended
from mlx_suite.text import Message
from mlx_suite_apps.chat.page.token_branch import start_branch
from mlx_suite_apps.chat.page.token_scores import response_tokens, score_response, token_forms, token_text
from tests.apps.chat.page.engine_service import NAME, EngineService, tiny_llama3

GREEDY = Sampling(temperature=0.0)
PROMPT = tiny_llama3().prompt_ids([Message("user", "Which day comes after Monday?")])


@pytest.fixture(scope="module")
def service() -> Iterator[EngineService]:
    with EngineService() as service:
        yield service


def greedy(chat: ChatModel, limit: int = 40) -> tuple[int, ...]:
    def program() -> Program:
        yield Given(PROMPT)
        return (yield Sample(limit=limit, stop=frozenset(chat.stop_ids), sampling=GREEDY))

    [written] = chat.run([Request(program=program())])
    tokens: tuple[int, ...] = written.tokens
    return tokens


async def branched(service: EngineService, tokens: tuple[int, ...], limit: int | None = 40) -> tuple[str, list[int]]:
    stream = await start_branch(service, NAME, PROMPT, tokens, limit=limit, sampling=GREEDY, seed=1)
    text, ids = stream.given, list(tokens)
    async for event in stream:
        if isinstance(event, TextDelta):
            text += event.text
            ids += [token.id for token in event.tokens]
        elif isinstance(event, Ended):
            break
    return text, ids


def test_each_greedy_token_is_its_own_first_alternative(service: EngineService) -> None:
    chat = tiny_llama3()
    written = greedy(chat)
    scores = asyncio.run(score_response(service, NAME, PROMPT, written))
    forms = token_forms(chat.tokenizer, written, scores)
    assert "".join(form["text"] for form in forms) == chat.tokenizer.decode(written) == "Tuesday comes after Monday."
    assert [form["alternatives"][0]["id"] for form in forms] == list(written)
    for form in forms:
        assert form["probability"] == form["alternatives"][0]["probability"] > 0
        probabilities = [each["probability"] for each in form["alternatives"]]
        assert probabilities == sorted(probabilities, reverse=True) and sum(probabilities) < 1.001


def test_ids_in_the_facts_count_if_they_are_the_text(service: EngineService) -> None:
    tokenizer = tiny_llama3().tokenizer
    letters = [token for letter in "Tuesday" for token in tokenizer.encode(letter)]
    stored = response_tokens(tokenizer, "Tuesday", {"ids": letters})
    assert (stored.ids, stored.is_exact) == (tuple(letters), True)


@pytest.mark.parametrize("facts", [{}, {"ids": [5]}, {"ids": "Tuesday"}, {"ids": [10**9]}, {"ids": []}])
def test_without_valid_ids_the_text_is_encoded(facts: dict[str, Any]) -> None:
    tokenizer = tiny_llama3().tokenizer
    tokens = response_tokens(tokenizer, "Tuesday it is", facts)
    assert (tokens.ids, tokens.is_exact) == (tuple(tokenizer.encode("Tuesday it is")), False)


def test_a_branch_begins_with_the_given_tokens_and_is_continued(service: EngineService) -> None:
    chat = tiny_llama3()
    written = greedy(chat)
    text, ids = asyncio.run(branched(service, written[:2]))
    assert tuple(ids) == written
    assert text == "Tuesday comes after Monday."


def test_a_branch_keeps_exact_ids_that_the_text_would_not_give(service: EngineService) -> None:
    tokenizer = tiny_llama3().tokenizer
    letters = tuple(token for letter in "Tue" for token in tokenizer.encode(letter))
    assert letters != tuple(tokenizer.encode("Tue"))
    text, ids = asyncio.run(branched(service, letters))
    assert tuple(ids[: len(letters)]) == letters
    assert text.startswith("Tue") and text == tokenizer.decode(ids)


def test_the_given_tokens_count_towards_the_limit(service: EngineService) -> None:
    written = greedy(tiny_llama3())
    _, ids = asyncio.run(branched(service, written[:3], limit=5))
    assert len(ids) == 5


def test_a_character_that_the_given_tokens_begin_is_completed(service: EngineService) -> None:
    tokenizer = tiny_llama3().tokenizer
    first, *rest = tokenizer.encode("é")
    if not rest:
        first, *rest = tokenizer.encode("\N{GRINNING FACE}")
    assert rest, "a character of several tokens"
    assert token_text(tokenizer, first) == "\ufffd"
    stream = asyncio.run(start_branch(service, NAME, PROMPT, (first,), limit=2, sampling=GREEDY, seed=1))
    assert stream.given == ""
    stream.cancel()


def test_special_tokens_are_shown_by_name() -> None:
    chat = tiny_llama3()
    assert token_text(chat.tokenizer, chat.stop_ids[0]) == "<|eot_id|>"
