"""Settings of single segments: penalties, bias, constraints and scores, beside rows that have none."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt
import pytest

from mlx_suite.engine import Engine, Given, Program, Request, Sample, Sampling, TokenScore, Written
from mlx_suite.engine.sampling import penalised
from tests.engine.scripted import STOP, ScriptedModel
from tests.engine.small_models import small_gemma, small_llama

PROMPT = (5, 6, 7, 5)
VOCABULARY = 64
MODELS = {"llama": small_llama, "gemma with a window of 8": small_gemma}


def one(sample: Sample, prompt: tuple[int, ...] = PROMPT) -> Program:
    yield Given(prompt)
    return (yield sample)


def written(model: Any, *samples: Sample) -> list[Written]:
    """Results of one program for each sample, all in one batch."""
    requests = [Request(program=one(sample), seed=seed) for seed, sample in enumerate(samples)]
    done = {each.request.seed: each.result for each in Engine(model, slots=len(samples), context=64).run(requests)}
    return [done[seed] for seed in range(len(samples))]


def greedy(limit: int = 20, **changes: Any) -> Sample:
    return Sample(limit=limit, stop=frozenset(), sampling=Sampling(temperature=0.0, **changes))


def logits_after(model: Any, tokens: Sequence[int]) -> np.ndarray:
    return np.array(model(mx.array([list(tokens)]))[0, -1].astype(mx.float32), dtype=np.float64)


def by_hand(model: Any, limit: int, sampling: Sampling) -> tuple[int, ...]:
    """Greedy text with penalties, one full forward pass per token, in NumPy."""
    text: list[int] = []
    for _ in range(limit):
        logits = logits_after(model, (*PROMPT, *text))
        for token in {*PROMPT, *text}:
            value = logits[token]
            logits[token] = value / sampling.repetition_penalty if value > 0 else value * sampling.repetition_penalty
        for token in set(text):
            logits[token] -= sampling.presence_penalty + sampling.frequency_penalty * text.count(token)
        for token, bias in sampling.logit_bias:
            logits[token] += bias
        text.append(int(logits.argmax()))
    return tuple(text)


@pytest.mark.parametrize("name", MODELS)
def test_penalised_text_equals_the_formulas_whatever_the_other_rows_do(name: str) -> None:
    model = MODELS[name]()
    settings: list[dict[str, Any]] = [
        {"repetition_penalty": 1.3},
        {},
        {"presence_penalty": 1.5},
        {"frequency_penalty": 0.7},
        {"repetition_penalty": 1.1, "frequency_penalty": 0.2, "logit_bias": ((9, 2.0), (3, -4.0))},
    ]

    found = written(model, *(greedy(**each) for each in settings))

    expected = [by_hand(model, 20, Sampling(temperature=0.0, **each)) for each in settings]
    assert [each.tokens for each in found] == expected
    assert len(set(expected)) > 2  # the settings matter


def test_penalties_count_a_tokens_own_segment_only() -> None:
    def program() -> Program:
        yield Given(PROMPT)
        first = yield greedy(6, frequency_penalty=50.0)
        yield Given((8,))
        second = yield greedy(6, frequency_penalty=50.0)
        return first.tokens, second.tokens

    model = small_llama()
    [done] = Engine(model, slots=1, context=64).run([Request(program=program())])
    first, second = done.result
    assert len(set(first)) == len(set(second)) == 6  # no token twice in a segment
    start = logits_after(model, (*PROMPT, *first, 8))
    assert second[0] == start.argmax()


def test_penalties_of_positive_and_negative_logits() -> None:
    found = penalised(
        mx.array([[2.0, -2.0, 1.0, 0.5]]),
        mx.array([[True, True, False, False]]),
        mx.array([[0, 1, 3, 0]]),
        mx.array([[2.0], [0.5], [0.25]]),
    )
    assert found.tolist() == [[1.0, -4.75, -0.25, 0.5]]


def test_a_bias_forces_and_forbids_tokens() -> None:
    model = ScriptedModel({5: {10: 0.6, 11: 0.4}, 10: 10, 11: 11})
    forced, forbidden, plain = written(
        model, greedy(2, logit_bias=((12, 100.0),)), greedy(1, logit_bias=((10, -100.0),)), greedy(2)
    )
    assert (forced.tokens, forbidden.tokens, plain.tokens) == ((12, 12), (11,), (10, 10))


def test_top_k_limits_the_choice_of_its_own_row() -> None:
    model = ScriptedModel({5: {10: 0.4, 11: 0.3, 12: 0.2, 13: 0.1}})
    first = {
        top_k: {
            each.tokens[0]
            for each in written(model, *[Sample(limit=1, stop=frozenset(), sampling=Sampling(top_k=top_k))] * 40)
        }
        for top_k in (1, 2, 0)
    }
    assert first == {1: {10}, 2: {10, 11}, 0: {10, 11, 12, 13}}


class Alternating:
    """Allows odd tokens after even ones and the reverse; forces 8, 9 at the start and a stop token after six tokens."""

    def forced(self, text: Sequence[int]) -> Sequence[int]:
        return (8, 9) if not text else (STOP,) if len(text) == 6 else ()

    def allowed(self, text: Sequence[int]) -> npt.NDArray[np.bool_]:
        mask = np.zeros(VOCABULARY, np.bool_)
        mask[(text[-1] + 1) % 2 :: 2] = True
        return mask


@pytest.mark.parametrize("name", MODELS)
def test_a_constraint_forces_and_restricts_tokens(name: str) -> None:
    model = MODELS[name]()
    tokens: list[int] = []
    free = greedy(20)
    bound = Sample(limit=20, stop=frozenset({STOP}), sampling=Sampling(temperature=0.0), constraint=Alternating())
    requests = [Request(program=one(free), seed=0), Request(program=one(bound), seed=1, on_token=tokens.append)]

    done = {each.request.seed: each.result for each in Engine(model, slots=2, context=64).run(requests)}

    text = [8, 9]
    while len(text) < 6:
        logits = logits_after(model, (*PROMPT, *text))
        logits[text[-1] % 2 :: 2] = -np.inf
        text.append(int(logits.argmax()))
    assert done[1] == Written(tokens=tuple(text), reason="stop", stop_token=STOP)
    assert tokens == [*text, STOP]
    assert done[0].tokens == written(model, free)[0].tokens


class FormLetter:
    """Leaves the first and the eighth token to the model, and forces 20 to 25 between them."""

    def forced(self, text: Sequence[int]) -> Sequence[int]:
        return range(20, 26) if len(text) == 1 else ()

    def allowed(self, text: Sequence[int]) -> npt.NDArray[np.bool_]:
        return np.arange(VOCABULARY) >= 40


@pytest.mark.parametrize("name", MODELS)
def test_forced_tokens_are_fed_in_one_pass_if_no_other_program_runs(name: str) -> None:
    model = MODELS[name]()
    letter = Sample(limit=8, stop=frozenset(), sampling=Sampling(temperature=0.0), constraint=FormLetter())
    alone, shared = Engine(model, slots=1, context=64), Engine(model, slots=2, context=64)

    [done] = alone.run([Request(program=one(letter))])
    beside = {
        each.request.seed: each.result
        for each in shared.run([Request(program=one(s), seed=i) for i, s in enumerate((greedy(20), letter))])
    }

    first, *forced, last = done.result.tokens
    for token, before in ((first, PROMPT), (last, (*PROMPT, first, *range(20, 26)))):
        logits = logits_after(model, before)
        assert token == 40 + int(logits[40:].argmax())
    assert forced == [20, 21, 22, 23, 24, 25]
    assert beside[1] == done.result
    assert (alone.stats.prefilled, alone.stats.steps) == (3 + 6, 2)


class Broken(Alternating):
    """Fails after two tokens."""

    def allowed(self, text: Sequence[int]) -> npt.NDArray[np.bool_]:
        if len(text) == 2:
            raise ValueError("the grammar has no rule")
        return super().allowed(text)


def test_a_constraint_that_fails_ends_its_own_program() -> None:
    model = small_llama()
    broken = Sample(limit=9, stop=frozenset(), constraint=Broken())
    requests = [Request(program=one(sample), seed=seed) for seed, sample in enumerate((greedy(5), broken))]

    done = {each.request.seed: each for each in Engine(model, slots=2, context=64).run(requests)}

    assert isinstance(done[1].error, ValueError)
    assert done[0].result.tokens == written(model, greedy(5))[0].tokens


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_the_models_own_log_probabilities(name: str) -> None:
    model = MODELS[name]()
    scores: list[TokenScore | None] = []
    sampling = Sampling(temperature=1.5, repetition_penalty=1.2, banned=(3,))
    samples = [Sample(limit=6, stop=frozenset(), sampling=sampling, alternatives=k) for k in (3, 0, None)]
    requests = [Request(program=one(sample), seed=4) for sample in samples]
    requests[0].on_score = scores.append

    found = [done.result for done in Engine(model, slots=3, context=64).run(requests)]

    three, none, unscored = sorted(found, key=lambda each: -len(each.scores[0].alternatives) if each.scores else 1)
    assert three.tokens == none.tokens == unscored.tokens
    assert list(three.scores) == scores
    assert unscored.scores == ()
    for place, score in enumerate(three.scores):
        logits = logits_after(model, (*PROMPT, *three.tokens[:place]))
        log_probs = logits - np.log(np.exp(logits).sum())
        assert score.log_prob == pytest.approx(log_probs[three.tokens[place]], abs=1e-4)
        assert [token for token, _ in score.alternatives] == np.argsort(-log_probs)[:3].tolist()
        assert [value for _, value in score.alternatives] == pytest.approx(np.sort(log_probs)[::-1][:3], abs=1e-4)
        assert none.scores[place].alternatives == ()
