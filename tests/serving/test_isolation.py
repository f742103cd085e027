"""A user's text never depends on who else is being answered."""

import asyncio
import random
from collections.abc import Sequence

import pytest

from mlx_suite.engine import Sampling
from mlx_suite.serving.engine_service import EngineService
from mlx_suite.serving.generation import Delta, Generation
from mlx_suite.serving.worker import Limits
from tests.serving.conftest import Answer, answer, asking, make_service

MODELS = {"tiny-llama3": 2, "tiny-gemma2": 2}
"""With their number of key heads."""
TURNS = (
    "Which month comes before May?",
    "What is 12 plus 30?",
    "Name two drinks.",
    "The points are Henry 4, Rosa 3 and Greta 8. Add up the points of Henry and Rosa.",
    "Adam is 16. Ines is 10. Which of them is younger?",
    "My brother says a potato is a vegetable. Is he right?",
    "I do not know what to do in winter. Tell me two things.",
    "Hi",
    "Which month comes after May? Answer in one sentence, please, and do not explain anything else to me.",
    "Write the word river backwards.",
    "Name a fruit.",
    "Is it true that seven is less than nine? Say yes or no, and then say which of the two is the larger number.",
)


def one_at_a_time(service: EngineService, generations: Sequence[Generation]) -> list[str]:
    async def each() -> list[str]:
        return [(await answer(service, generation)).text for generation in generations]

    return asyncio.run(each())


def at_once(service: EngineService, generations: Sequence[Generation]) -> list[str]:
    async def together() -> list[Answer]:
        return list(await asyncio.gather(*(answer(service, generation) for generation in generations)))

    return [each.text for each in asyncio.run(together())]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_twelve_users_at_once_get_what_each_gets_alone(service: EngineService, model: str, temperature: float) -> None:
    sampling = Sampling(temperature=temperature, top_p=0.95 if temperature else 1.0)
    asked = [asking(service, model, text, sampling=sampling, seed=seed) for seed, text in enumerate(TURNS)]
    assert at_once(service, asked) == one_at_a_time(service, asked)


@pytest.mark.parametrize(("model", "key_heads"), MODELS.items())
def test_as_many_users_as_key_heads_get_what_each_gets_alone(
    service: EngineService, model: str, key_heads: int
) -> None:
    assert service.model(model).chat.model.config.num_key_value_heads == key_heads
    narrow = make_service(model, limits=Limits(slots=key_heads))
    try:
        asked = [asking(service, model, text) for text in TURNS]
        assert at_once(narrow, asked) == one_at_a_time(service, asked)
    finally:
        narrow.worker.close()


@pytest.mark.parametrize("model", MODELS)
def test_others_that_join_leave_and_are_cancelled_change_nothing(service: EngineService, model: str) -> None:
    asked = [asking(service, model, text) for text in TURNS]
    expected = one_at_a_time(service, asked)
    chance = random.Random(0)

    async def passer_by(number: int) -> None:
        await asyncio.sleep(chance.random() / 4)
        sampling = Sampling(temperature=1.5, frequency_penalty=0.5 * (number % 2))
        stream = await service.start(
            asking(service, model, TURNS[number % 12] + " Hurry up!", sampling=sampling, limit=64, seed=number)
        )
        deltas = 0
        async for event in stream:
            deltas += isinstance(event, Delta)
            if deltas > number % 9:
                stream.cancel()

    async def everyone() -> list[str]:
        passing = [asyncio.create_task(passer_by(number)) for number in range(24)]
        found = []
        for start in range(0, 12, 4):
            some = await asyncio.gather(*(answer(service, each) for each in asked[start : start + 4]))
            found += [each.text for each in some]
        await asyncio.gather(*passing)
        return found

    assert asyncio.run(everyone()) == expected
    assert service.status().running == service.status().waiting == 0


@pytest.mark.parametrize("model", MODELS)
def test_no_word_of_one_user_reaches_another(service: EngineService, model: str) -> None:
    words = ("Adam", "Ines", "Henry", "Rosa", "Greta", "Otto", "Clara", "Felix")
    turns = [f"{word} is 16. Ask {word} a question about {word}." for word in words]
    texts = at_once(service, [asking(service, model, turn) for turn in turns * 2])

    for own, text in zip(words * 2, texts, strict=True):
        assert not [word for word in words if word != own and word in text], (own, text)
    assert sum(word in text for word, text in zip(words * 2, texts, strict=True)) >= 8
