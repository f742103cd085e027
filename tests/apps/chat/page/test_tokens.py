"""Tokens of a stored response: scores by the real engine, and responses that branch at a token."""

import asyncio
from collections.abc import AsyncIterable, Iterator
from typing import Any

import pytest

from mlx_suite.serving.chat import TextDelta
from mlx_suite.serving.engine_service import EngineService
from mlx_suite.serving.generation import Delta, Ended, Generation
from mlx_suite.text import Tokenizer
from mlx_suite_apps.chat.page.token_branch import start_branch
from mlx_suite_apps.chat.page.token_scores import response_tokens, score_response, token_forms, token_text
from tests.serving.conftest import asking, make_service

NAME = "tiny-llama3"
MONDAY = "Which day comes after Monday?"


@pytest.fixture(scope="module")
def service() -> Iterator[EngineService]:
    made = make_service(NAME)
    yield made
    made.worker.close()


@pytest.fixture(scope="module")
def tokenizer(service: EngineService) -> Tokenizer:
    return service.model(NAME).chat.tokenizer


async def collected(stream: AsyncIterable[Any]) -> tuple[str, tuple[int, ...]]:
    """Text and token ids of a stream up to its end."""
    text, ids = "", []
    async for event in stream:
        if isinstance(event, Delta | TextDelta):
            text += event.text
            ids += [token.id for token in event.tokens]
        elif isinstance(event, Ended):
            break
    return text, tuple(ids)


def written(service: EngineService, generation: Generation) -> tuple[int, ...]:
    """Token ids of a greedy response."""

    async def write() -> tuple[int, ...]:
        return (await collected(await service.start(generation)))[1]

    return asyncio.run(write())


def branched(service: EngineService, generation: Generation, *tokens: int) -> tuple[str, tuple[int, ...]]:
    """Text and token ids of the response that begins with `tokens`."""

    async def write() -> tuple[str, tuple[int, ...]]:
        stream = await start_branch(service, generation, tokens)
        text, ids = await collected(stream)
        return stream.given + text, (*tokens, *ids)

    return asyncio.run(write())


def test_each_greedy_token_is_its_own_first_alternative(service: EngineService, tokenizer: Tokenizer) -> None:
    generation = asking(service, NAME, MONDAY)
    tokens = written(service, generation)
    scores = asyncio.run(score_response(service, NAME, generation.prompt, tokens))
    forms = token_forms(tokenizer, tokens, scores)
    assert "".join(form["text"] for form in forms) == tokenizer.decode(tokens) == "Tuesday comes after Monday."
    assert [form["alternatives"][0]["id"] for form in forms] == list(tokens)
    for form in forms:
        assert form["probability"] == form["alternatives"][0]["probability"] > 0
        probabilities = [each["probability"] for each in form["alternatives"]]
        assert probabilities == sorted(probabilities, reverse=True) and sum(probabilities) < 1.001


def test_ids_in_the_facts_count_if_they_are_the_text(tokenizer: Tokenizer) -> None:
    letters = [token for letter in "Tuesday" for token in tokenizer.encode(letter)]
    stored = response_tokens(tokenizer, "Tuesday", {"ids": letters})
    assert (stored.ids, stored.is_exact) == (tuple(letters), True)


@pytest.mark.parametrize("facts", [{}, {"ids": [5]}, {"ids": "Tuesday"}, {"ids": [10**9]}, {"ids": []}])
def test_without_valid_ids_the_text_is_encoded(tokenizer: Tokenizer, facts: dict[str, Any]) -> None:
    tokens = response_tokens(tokenizer, "Tuesday it is", facts)
    assert (tokens.ids, tokens.is_exact) == (tuple(tokenizer.encode("Tuesday it is")), False)


def test_a_branch_begins_with_the_given_tokens_and_is_continued(service: EngineService) -> None:
    generation = asking(service, NAME, MONDAY)
    tokens = written(service, generation)
    assert branched(service, generation, *tokens[:2]) == ("Tuesday comes after Monday.", tokens)


def test_a_branch_keeps_exact_ids_that_the_text_would_not_give(service: EngineService, tokenizer: Tokenizer) -> None:
    letters = tuple(token for letter in "Tue" for token in tokenizer.encode(letter))
    assert letters != tuple(tokenizer.encode("Tue"))
    text, ids = branched(service, asking(service, NAME, MONDAY), *letters)
    assert ids[: len(letters)] == letters
    assert text.startswith("Tue") and text == tokenizer.decode(ids)


def test_the_given_tokens_count_towards_the_limit(service: EngineService) -> None:
    generation = asking(service, NAME, MONDAY, limit=5)
    tokens = written(service, generation)
    assert branched(service, generation, *tokens[:3])[1] == tokens
    assert len(tokens) == 5


def test_a_character_that_the_given_tokens_begin_is_completed(service: EngineService, tokenizer: Tokenizer) -> None:
    first, *rest = tokenizer.encode("\N{GRINNING FACE}")
    assert rest and token_text(tokenizer, first) == "\ufffd"
    text, ids = branched(service, asking(service, NAME, MONDAY, limit=3), first)
    assert ids[0] == first and text == tokenizer.decode(ids)


def test_special_tokens_are_shown_by_name(tokenizer: Tokenizer) -> None:
    end = tokenizer.id_of("<|eot_id|>")
    assert end is not None and token_text(tokenizer, end) == "<|eot_id|>"
