"""Requests to a service: refusals, limits, seeds, cancellation, and what remains after a failure."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from mlx_suite.engine import Done, Given, Program, Request, Sample, Sampling
from mlx_suite.runtime.errors import UserError
from mlx_suite.serving.engine_service import EngineService
from mlx_suite.serving.generation import Delta, Ended, Event, Started
from mlx_suite.serving.service import EngineFailure, PromptTooLong, QueueFull, UnknownModel
from mlx_suite.serving.worker import Limits, Worker
from tests.serving.conftest import answer, answers, ask, asking, make_service

MAY = "Which month comes before May?"
DRAWN = Sampling(temperature=1.0)


@pytest.fixture(scope="module")
def small() -> Iterator[EngineService]:
    """One slot, and room for one request that waits."""
    made = make_service("tiny-llama3", limits=Limits(slots=1, waiting=1))
    yield made
    made.worker.close()


async def events_of(service: EngineService, **settings: Any) -> list[Event]:
    return [event async for event in await service.start(asking(service, "tiny-llama3", MAY, **settings))]


def test_a_request_is_answered_with_a_start_deltas_and_an_end(service: EngineService) -> None:
    first, *deltas, last = asyncio.run(events_of(service))

    assert isinstance(first, Started) and first.prompt_tokens == 16
    assert "".join(each.text for each in deltas if isinstance(each, Delta)) == "The month before May is April."
    assert isinstance(last, Ended) and (last.reason, last.tokens, last.prompt_tokens) == ("stop", 11, 16)


def test_a_prompt_that_was_answered_before_is_not_prefilled_again(service: EngineService) -> None:
    ask(service, "tiny-llama3", "Name a drink.")
    again = ask(service, "tiny-llama3", "Name a drink.").ended
    assert again.cached_tokens == again.prompt_tokens - 1


def test_a_stop_text_ends_the_response_before_it(service: EngineService) -> None:
    stopped = ask(service, "tiny-llama3", MAY, stop_texts=("May is",))
    assert (stopped.text, stopped.ended.reason, stopped.ended.stop_text) == ("The month before ", "stop", "May is")


def test_the_limit_ends_a_response(service: EngineService) -> None:
    stopped = ask(service, "tiny-llama3", MAY, limit=3)
    assert (stopped.text, stopped.ended.reason, stopped.ended.tokens) == ("The month before", "limit", 3)


def test_without_a_limit_a_response_may_fill_the_context(service: EngineService) -> None:
    filled = ask(service, "tiny-llama3", MAY, limit=None, stop=frozenset(), prompt=(1, 5, 9) * 160)
    context = service.model("tiny-llama3").chat.context
    assert filled.ended.reason in ("limit", "context")
    assert filled.ended.prompt_tokens + filled.ended.tokens == context


def test_a_seed_gives_the_same_text_again_and_each_choice_has_its_own(service: EngineService) -> None:
    async def drawn(seed: int, choices: int) -> list[str]:
        asked = asking(service, "tiny-llama3", "Name a fruit.", sampling=DRAWN, seed=seed, choices=choices)
        return [each.text for each in await answers(service, asked)]

    three = asyncio.run(drawn(7, 3))
    assert three == [asyncio.run(drawn(seed, 1))[0] for seed in (7, 8, 9)]
    assert len(set(three)) > 1


def test_scores_come_with_the_tokens(service: EngineService) -> None:
    deltas = [each for each in asyncio.run(events_of(service, alternatives=2)) if isinstance(each, Delta)]
    tokens = [token for delta in deltas for token in delta.tokens]

    assert len(tokens) == 10
    for token in tokens:
        assert token.score is not None and token.score.alternatives[0][0] == token.id
        assert token.score.log_prob == token.score.alternatives[0][1] < 0.0


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"model": "gpt-9"}, UnknownModel, "No model called 'gpt-9' is served"),
        (
            {"prompt": (5,) * 3000},
            PromptTooLong,
            "has 3,000 tokens; the context of prompt and response is 512",
        ),
        ({"prompt": ()}, UserError, "The prompt is empty"),
        ({"prompt": (5, 99_999)}, UserError, "The prompt has token 99999, which the model does not have"),
        ({"sampling": Sampling(logit_bias=((99_999, 1.0),))}, UserError, "logit_bias names token 99999"),
    ],
)
def test_a_request_that_cannot_be_answered_is_refused_before_any_work(
    service: EngineService, settings: dict[str, Any], error: type[Exception], words: str
) -> None:
    before = service.status().requests
    with pytest.raises(error, match=words):
        asyncio.run(service.start(replace(asking(service, "tiny-llama3", MAY), **settings)))  # type: ignore[arg-type]
    assert service.status().requests == before


def test_a_prompt_that_is_too_long_says_both_numbers(service: EngineService) -> None:
    with pytest.raises(PromptTooLong) as caught:
        ask(service, "tiny-gemma2", MAY, prompt=(5,) * 5000)
    assert (caught.value.prompt_tokens, caught.value.context) == (5000, service.model("tiny-gemma2").chat.context)


def test_a_request_whose_kv_cache_exceeds_the_budget_is_refused_and_smaller_ones_are_not() -> None:
    service = make_service("tiny-llama3", limits=Limits(kv_bytes=1_000_000))
    try:
        with pytest.raises(UserError, match="more than the server's memory budget of 1.00 MB"):
            ask(service, "tiny-llama3", MAY, limit=None)
        assert ask(service, "tiny-llama3", MAY).text == "The month before May is April."
    finally:
        service.worker.close()


def test_requests_wait_while_the_kv_caches_of_others_fill_the_budget() -> None:
    service = make_service("tiny-llama3", "tiny-gemma2", limits=Limits(kv_bytes=2_200_000))
    most = 0

    async def all_of_them() -> list[str]:
        nonlocal most
        asked = [asking(service, model, MAY) for model in ("tiny-llama3", "tiny-gemma2") * 6]
        tasks = [asyncio.create_task(answer(service, each)) for each in asked]
        while not all(task.done() for task in tasks):
            most = max(most, service.status().running)
            await asyncio.sleep(0)
        return [task.result().text for task in tasks]

    try:
        assert asyncio.run(all_of_them())[::2] == ["The month before May is April."] * 6
        assert 1 <= most <= 4
    finally:
        service.worker.close()


def test_more_requests_than_may_wait_are_refused_with_a_time_to_try_again(small: EngineService) -> None:
    async def crowd() -> None:
        started = [await small.start(asking(small, "tiny-llama3", MAY, limit=2000, stop=frozenset())) for _ in range(2)]
        with pytest.raises(QueueFull) as caught:
            for _ in range(3):
                await small.start(asking(small, "tiny-llama3", MAY))
        assert caught.value.retry_after >= 1.0
        for stream in started:
            stream.cancel()
            assert [event async for event in stream][-1].reason == "cancelled"  # type: ignore[union-attr]
        await asyncio.sleep(0.1)
        assert (await answer(small, asking(small, "tiny-llama3", MAY))).text == "The month before May is April."

    asyncio.run(crowd())


def test_the_time_limit_ends_a_response_and_keeps_its_text(service: EngineService) -> None:
    unhurried = ask(service, "tiny-llama3", MAY, limit=None, stop=frozenset())
    late = ask(service, "tiny-llama3", MAY, limit=None, stop=frozenset(), seconds=0.1)
    assert late.ended.reason == "time"
    assert unhurried.text.startswith(late.text)


def test_a_hundred_readers_that_leave_free_their_slots(service: EngineService) -> None:
    async def leave(number: int) -> None:
        stream = await service.start(asking(service, "tiny-llama3", MAY, limit=2000, stop=frozenset()))
        if number % 2:
            async for _ in stream:
                break
        stream.cancel()

    async def crowd() -> None:
        for start in range(0, 100, 20):
            await asyncio.gather(*(leave(number) for number in range(start, start + 20)))
        while service.status().running or service.status().waiting:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(crowd(), 60))
    assert ask(service, "tiny-llama3", MAY).text == "The month before May is April."


def test_after_a_failure_of_the_engine_the_next_request_works(
    service: EngineService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> Any:
        raise RuntimeError("[metal::malloc] Attempting to allocate 48700000000 bytes")

    with monkeypatch.context() as patch:
        patch.setattr("mlx_suite.engine.prefill._feed", broken)
        with pytest.raises(EngineFailure, match="RuntimeError: .metal::malloc. Attempting to allocate"):
            ask(service, "tiny-llama3", "A prompt that no cache holds yet.")
    status = service.status()
    assert (status.failures, status.running) == (1, 0)
    assert status.last_failure == "RuntimeError: [metal::malloc] Attempting to allocate 48700000000 bytes"
    assert ask(service, "tiny-llama3", MAY).text == "The month before May is April."


def test_any_program_may_run_beside_the_chats(service: EngineService) -> None:
    chat = service.model("tiny-llama3").chat
    finished = threading.Event()
    results: list[Done] = []

    def program() -> Program:
        yield Given(chat.turns.header_ids)
        written = yield Sample(limit=40, stop=frozenset(chat.turns.user_stop_ids))
        return chat.text(written)

    def on_done(done: Done) -> None:
        results.append(done)
        finished.set()

    service.submit("tiny-llama3", Request(program=program(), seed=3), on_done)
    assert finished.wait(30)
    assert len(results[0].result) > 5


def test_a_function_runs_on_the_thread_that_owns_mlx(service: EngineService) -> None:
    async def where() -> str:
        return await service.call("tiny-gemma2", lambda chat: f"{chat.name} on {threading.current_thread().name}")

    assert asyncio.run(where()) == "tiny-gemma2 on mlx"


def test_embeddings_have_length_one_and_do_not_depend_on_their_neighbours(service: EngineService) -> None:
    prompts = [asking(service, "tiny-llama3", text).prompt for text in (MAY, "Name a fruit.", "Name two fruits.")]
    together = asyncio.run(service.embed("tiny-llama3", prompts))
    alone = [asyncio.run(service.embed("tiny-llama3", [prompt]))[0] for prompt in prompts]

    assert [len(vector) for vector in together] == [192, 192, 192]
    assert sum(value * value for value in together[0]) == pytest.approx(1.0)
    for one, other in zip(together, alone, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_a_model_that_cannot_be_loaded_ends_the_start() -> None:
    def load() -> Any:
        raise UserError("there is no model 'nothing'")

    with pytest.raises(UserError, match="there is no model 'nothing'"):
        Worker(load).start()


def test_closing_ends_what_runs_and_what_waits() -> None:
    service = make_service("tiny-llama3", limits=Limits(slots=1))

    async def closed() -> list[str]:
        asked = asking(service, "tiny-llama3", MAY, limit=2000, stop=frozenset())
        streams = [await service.start(asked) for _ in range(3)]
        await asyncio.to_thread(service.worker.close)
        return [[event async for event in stream][-1].reason for stream in streams]  # type: ignore[union-attr]

    assert asyncio.run(closed()) == ["cancelled"] * 3
