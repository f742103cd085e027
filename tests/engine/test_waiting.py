"""Requests that come only when others are done."""

from collections.abc import Iterator
from typing import Any

from mlx_suite.engine import Done, Engine, Given, Program, Request, Sample
from tests.engine.small_models import small_llama


def program(number: int) -> Program:
    yield Given((1, 2, number))
    written = yield Sample(limit=4 + number, stop=frozenset())
    return number, written.tokens


def test_a_slot_waits_while_there_is_no_request() -> None:
    model: Any = small_llama()
    finished: list[int] = []

    def one_after_the_other() -> Iterator[Request | None]:
        for number in range(4):
            while len(finished) < number:
                yield None
            yield Request(program=program(number), seed=number)

    def run(requests: Iterator[Request | None]) -> list[Any]:
        results = []
        for done in Engine(model, slots=3, context=64).run(requests):
            assert isinstance(done, Done)
            finished.append(done.result[0])
            results.append(done.result)
        return results

    alone = [run(iter([Request(program=program(number), seed=number)]))[0] for number in range(4)]
    finished.clear()
    assert run(one_after_the_other()) == alone
