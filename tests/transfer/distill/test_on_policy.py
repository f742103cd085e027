"""On-policy rows hold the student's own responses, as a function of seed, step, row and weights."""

from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from mlx_suite.data.batch.rows import Document
from mlx_suite.loading import load
from mlx_suite.transfer.distill.on_policy import Rollouts, on_policy_batches, prompted
from mlx_suite.transfer.distill.settings import DistillSettings

PROMPT = [1, 5, 6, 7]
TRAINED = Document([*PROMPT, 8, 9, 10], [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0])
STOP = frozenset({256})


def settings(**changes: object) -> DistillSettings:
    given = {"model": "", "teacher": "", "data": "", "on_policy": 1.0, "max_new_tokens": 5, "batch": 2} | changes
    return DistillSettings(**given)  # type: ignore[arg-type]


def documents(count: int) -> list[Document]:
    return [Document([1, 40 + number, 41, 42, 43], [0.0, 0.0, 0.0, 1.0, 1.0]) for number in range(count)]


@pytest.fixture(scope="module")
def model(student: Path) -> nn.Module:
    return load(student)[0]


def rollouts(model: nn.Module, count: int = 6, **changes: object) -> Rollouts:
    chosen = settings(**changes)
    return Rollouts(model=model, batches=on_policy_batches(documents(count), chosen), settings=chosen, stop=STOP)


def sampled(rollouts: Rollouts, step: int) -> dict[int, list[int]]:
    rollouts.sample(step, rollouts.batches.order(0, 0))
    return {number: list(document.tokens) for number, document in sorted(rollouts.batches.sampled.items())}


# ---- prompts


def test_the_prompt_is_everything_before_the_last_trained_response() -> None:
    assert prompted(TRAINED, 5, 100).prompt == 4
    two_turns = Document([*PROMPT, 8, 9, 2, 3, 11, 12], [0, 0, 0, 0, 1, 1, 0, 0, 1, 1])
    found = prompted(two_turns, 5, 100)
    assert found.prompt == 8
    assert found.with_response([20, 21, 256]).tokens == [*PROMPT, 8, 9, 2, 3, 20, 21, 256]
    assert found.with_response([20, 21, 256]).weights == [0.0] * 8 + [1.0] * 3


def test_a_text_without_a_prompt_keeps_its_data() -> None:
    assert prompted(Document([1, 5, 6], [0.0, 1.0, 1.0]), 5, 100).prompt == 0


def test_a_response_does_not_exceed_the_length_limit() -> None:
    assert prompted(TRAINED, 50, 9).room == 5
    assert prompted(TRAINED, 50, 4).prompt == 0


# ---- samples


def test_every_prompt_gets_a_response_of_at_most_the_limit(model: nn.Module) -> None:
    found = sampled(rollouts(model), step=3)
    assert sorted(found) == [0, 1, 2, 3, 4, 5]
    for number, tokens in found.items():
        assert tokens[:3] == [1, 40 + number, 41]
        response = tokens[3:]
        assert 1 <= len(response) <= 5
        assert 256 not in response[:-1]
        # A response ends with the stop token, or was cut at the limit.
        assert response[-1] == 256 or len(response) == 5


def test_samples_depend_on_seed_step_and_row_only(model: nn.Module) -> None:
    first = sampled(rollouts(model), step=3)
    assert sampled(rollouts(model, batch=3), step=3) == first
    assert {row: text for row, text in sampled(rollouts(model, count=3), step=3).items()} == {
        row: text for row, text in first.items() if row < 3
    }
    assert sampled(rollouts(model), step=4) != first
    assert sampled(rollouts(model, seed=1), step=3) != first


def test_samples_are_the_students_of_that_moment(model: nn.Module, student: Path) -> None:
    other, _ = load(student)
    other.lm_head.weight = other.lm_head.weight + mx.random.normal(other.lm_head.weight.shape, key=mx.random.key(1))
    assert sampled(rollouts(other), step=3) != sampled(rollouts(model), step=3)


@pytest.mark.parametrize(("share", "expected"), [(0.0, (0, 0)), (0.3, (45, 76)), (1.0, (200, 200))])
def test_the_share_decides_each_row_by_a_seeded_draw(share: float, expected: tuple[int, int]) -> None:
    chosen = rollouts(None, count=200, on_policy=share)  # type: ignore[arg-type]
    count = sum(chosen._is_on_policy(7, number) for number in range(200))
    assert expected[0] <= count <= expected[1]


# ---- batches


@pytest.mark.parametrize("batching", ["pack", "bucket"])
def test_batches_hold_the_sampled_rows_and_say_which_targets_they_are(batching: str) -> None:
    batches = on_policy_batches(documents(2), settings(batching=batching))
    batches.sampled[1] = batches.documents[1].with_response([50, 51, 52, 256])
    [order] = batches.order(0, 0) if batching == "bucket" else [np.array([0, -1])]
    batch = batches.take(order)
    assert (batch.document is None) == (batching == "bucket")
    found = {
        int(target): float(mark)
        for target, mark, weight in zip(batch.targets, batch.from_data, batch.weights, strict=True)
        if weight
    }
    assert found == {42: 1.0, 43: 1.0, 50: 0.0, 51: 0.0, 52: 0.0, 256: 0.0}


def test_shapes_do_not_depend_on_what_was_sampled() -> None:
    batches = on_policy_batches(documents(8), settings())
    orders = batches.order(0, 0)
    before = [batches.take(order) for order in orders]
    for number in range(8):
        batches.sampled[number] = batches.documents[number].with_response([50] * (1 + number % 5))
    after = [batches.take(order) for order in orders]
    shapes = {(each.tokens.shape, each.index.shape) for each in (*before, *after)}
    assert len(shapes) == 1
