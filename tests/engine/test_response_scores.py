"""Scores of a response that is already written."""

import math
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest

from mlx_suite.engine import Engine, Given, Program, Request, Sample
from mlx_suite.engine.response_scores import ResponseScores
from mlx_suite.runtime.errors import UserError
from tests.engine.scripted import ScriptedModel
from tests.engine.small_models import GREEDY, prompt_of, small_gemma, small_llama, small_mistral


def scored(model: Any, prompt: tuple[int, ...], tokens: tuple[int, ...], **settings: int) -> ResponseScores:
    scores = ResponseScores(model, prompt, tokens, alternatives=3, **settings)
    while scores.step():
        pass
    return scores


def test_every_token_has_its_probability_and_those_of_the_alternatives() -> None:
    model = ScriptedModel({1: {2: 0.5, 3: 0.3, 4: 0.2}, 3: {5: 0.9, 6: 0.1}, 5: {7: 0.6, 8: 0.4}})
    first, second, third = scored(model, (9, 1), (3, 5, 8)).found
    assert math.exp(first.log_prob) == pytest.approx(0.3)
    assert [(token, round(math.exp(each), 3)) for token, each in first.alternatives] == [(2, 0.5), (3, 0.3), (4, 0.2)]
    assert math.exp(second.log_prob) == pytest.approx(0.9)
    assert [token for token, _ in second.alternatives][:2] == [5, 6]
    assert math.exp(third.log_prob) == pytest.approx(0.4)


@pytest.mark.parametrize("make", [small_llama, small_gemma, small_mistral])
@pytest.mark.parametrize("chunk", [1, 5, 512])
def test_scores_equal_those_that_the_engine_reports_while_it_samples(make: Callable[[], Any], chunk: int) -> None:
    model, prompt = make(), prompt_of(11, seed=3)

    def program() -> Program:
        yield Given(prompt)
        return (yield Sample(limit=12, stop=frozenset(), sampling=GREEDY, alternatives=3))

    [done] = Engine(model, slots=1).run([Request(program=program())])
    written = done.result
    scores = scored(model, prompt, written.tokens, chunk=chunk, logits=64 * 3)
    assert len(scores.found) == 12
    for ours, engine in zip(scores.found, written.scores, strict=True):
        assert ours.log_prob == pytest.approx(engine.log_prob, abs=1e-4)
        assert [token for token, _ in ours.alternatives] == [token for token, _ in engine.alternatives]


def test_a_long_text_is_scored_one_chunk_at_a_time() -> None:
    model = ScriptedModel({1: 1})
    scores = ResponseScores(model, (1,) * 10, (1,) * 10, alternatives=1, chunk=8)
    lengths = []
    while scores.step():
        lengths.append(len(scores.found))
    assert lengths == [0, 7]  # positions 0 to 8 predict the rest of the prompt
    assert len(scores.found) == 10


def test_an_empty_response_has_no_scores() -> None:
    assert scored(ScriptedModel({}), (1, 2), ()).found == []


def test_infinite_logits_are_an_error() -> None:
    model = ScriptedModel({})
    model.table = mx.full((64, 64), float("nan"))
    with pytest.raises(UserError, match="NaN or inf"):
        scored(model, (1,), (2,))
