"""Speculative decoding writes the text of plain decoding, in fewer steps."""

import itertools
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_suite.engine import (
    DraftModel,
    Engine,
    Given,
    Program,
    PromptLookup,
    Queries,
    Query,
    Request,
    Sample,
    Sampling,
    Speculation,
)
from mlx_suite.engine.sequence import SequenceState
from mlx_suite.engine.speculation import FIRST_GUESS, LONGEST_GUESS
from mlx_suite.engine.step import Feed, Stepper
from tests.engine.scripted import ScriptedModel
from tests.engine.small_models import GREEDY, prompt_of, small_gemma, small_gemma3, small_llama, small_mistral, write

MODELS: dict[str, Callable[[], Any]] = {
    "llama": small_llama,
    "all layers with a window of 8": small_mistral,
    "gemma 2 with a window of 8": small_gemma,
    "gemma 3 with a window of 8": small_gemma3,
}
SAMPLINGS = {
    "greedy": GREEDY,
    "sampled": Sampling(temperature=0.7, top_p=0.9, banned=(3, 4), banned_first=(5,), logit_bias=((9, 2.0),)),
}


class Repeats:
    """Guesses that the newest token repeats."""

    def guess(self, state: SequenceState, length: int) -> list[int]:
        return state.sequence[-1:] * length


def guessers() -> dict[str, Any]:
    return {
        "lookup": PromptLookup(),
        "the model itself": None,
        "another model": DraftModel(small_llama(seed=5)),
        "mostly wrong": Repeats(),
    }


def engine_with(model: Any, guesser: Any, **settings: Any) -> Engine:
    return Engine(model, slots=1, context=200, speculation=Speculation(guesser, clock=stopped), **settings)


def stopped() -> float:
    """A clock by which every check pays."""
    return 0.0


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
@pytest.mark.parametrize("name", guessers())
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_the_text_is_that_of_plain_decoding(make: Callable[[], Any], name: str, sampling: Sampling) -> None:
    model = make()
    guesser = guessers()[name] or DraftModel(model)
    sample = Sample(limit=30, stop=frozenset({7}), sampling=sampling)
    plain, speculative = Engine(model, slots=1, context=200), engine_with(model, guesser)

    assert write(speculative, prompt_of(20), sample, seed=3) == write(plain, prompt_of(20), sample, seed=3)


def test_a_draft_model_that_is_right_saves_most_steps() -> None:
    model = small_llama()
    engine = engine_with(model, DraftModel(model))

    write(engine, prompt_of(10), Sample(limit=61, stop=frozenset(), sampling=GREEDY))

    # The first token is sampled with 4 guesses, then 8, 15, 15 and 13 follow: as many as the limit leaves.
    assert engine.speculation is not None
    assert (engine.speculation.guessed, engine.speculation.kept) == (56, 56)
    assert engine.stats.steps == 5
    assert engine.stats.sampled == 61


def test_prompt_lookup_guesses_what_followed_the_newest_tokens_the_last_time() -> None:
    engine = engine_with(ScriptedModel({}), PromptLookup())
    state = SequenceState(Request(program=given_then_sampled((1, 2, 3, 4, 1, 2, 3, 5, 6, 1, 2, 3))), engine.context)

    assert PromptLookup().guess(state, 4) == [5, 6, 1, 2]
    assert PromptLookup().guess(state, 2) == [5, 6]


def test_prompt_lookup_prefers_the_place_before_which_most_tokens_are_the_same() -> None:
    copied = (20, 1, 2, 3, 4, 5, 21, 1, 2, 3, 6, 7, 20, 1, 2, 3)
    state = SequenceState(Request(program=given_then_sampled(copied)), 100)

    assert PromptLookup().guess(state, 3) == [4, 5, 21]


def test_prompt_lookup_guesses_nothing_after_tokens_that_are_new() -> None:
    state = SequenceState(Request(program=given_then_sampled((1, 2, 3, 4, 5, 1, 2, 4))), 100)

    assert PromptLookup().guess(state, 4) == []


def given_then_sampled(prompt: tuple[int, ...]) -> Program:
    yield Given(prompt)
    return (yield Sample(limit=9, stop=frozenset(), sampling=GREEDY))


def test_a_text_that_repeats_takes_fewer_steps() -> None:
    circle = ScriptedModel({token: token % 10 + 1 for token in range(1, 11)})
    engine, plain = engine_with(circle, PromptLookup()), Engine(circle, slots=1, context=200)
    sample = Sample(limit=100, stop=frozenset(), sampling=GREEDY)
    prompt = tuple(range(1, 11)) * 2

    assert write(engine, prompt, sample) == write(plain, prompt, sample)
    assert (engine.stats.steps, plain.stats.steps) == (8, 101)


def test_after_wrong_guesses_and_a_while_without_any_right_ones_are_checked() -> None:
    circle = ScriptedModel({token: token % 10 + 1 for token in range(1, 11)})

    class WrongAtFirst:
        def guess(self, state: SequenceState, length: int) -> list[int]:
            if len(state.sequence) == 1:
                return [50] * length
            if len(state.sequence) < 20:
                return []
            return [(state.sequence[-1] + place) % 10 + 1 for place in range(length)]

    engine, plain = engine_with(circle, WrongAtFirst()), Engine(circle, slots=1, context=200)
    sample = Sample(limit=100, stop=frozenset(), sampling=GREEDY)

    assert write(engine, (1,), sample) == write(plain, (1,), sample)
    # 20 tokens one by one, then 2, 3, 5, 9 and 16 per step.
    assert (engine.stats.steps, plain.stats.steps) == (28, 101)


def test_a_stop_token_within_the_guesses_ends_the_text_there() -> None:
    model = ScriptedModel({1: 2, 2: 3, 3: 4, 4: 5, 5: 1})

    class Circle:
        def guess(self, state: SequenceState, length: int) -> list[int]:
            return [1, 2, 3, 4, 5, 1, 2, 3, 4, 5][state.sequence[-1] % 5 :][:length]

    def program() -> Program:
        yield Given((5,))
        first = yield Sample(limit=50, stop=frozenset({3}), sampling=GREEDY)
        yield Given((5,))
        second = yield Sample(limit=3, stop=frozenset({0}), sampling=GREEDY)
        [reply] = yield Queries((Query(tokens=(4,), labels=((5,), (6,))),))
        return first.tokens, first.stop_token, second.tokens, second.reason, reply.index

    engine = engine_with(model, Circle())
    (done,) = engine.run([Request(program=program())])

    assert done.result == ((1, 2), 3, (1, 2, 3), "limit", 0)


def test_every_token_is_reported_in_order_with_its_score() -> None:
    model, told = small_llama(), []
    sample = Sample(limit=30, stop=frozenset(), sampling=GREEDY, alternatives=2)

    def program() -> Program:
        yield Given(prompt_of(9))
        return (yield sample)

    scores = []
    for engine in (Engine(model, slots=1, context=200), engine_with(model, DraftModel(model))):
        tokens: list[int] = []
        (done,) = engine.run([Request(program=program(), on_token=tokens.append)])
        assert tuple(tokens) == done.result.tokens
        scores.append([score.log_prob for score in done.result.scores])
        told.append(tokens)

    assert told[0] == told[1]
    assert scores[1] == pytest.approx(scores[0], abs=1e-5)


@pytest.mark.parametrize(
    "sample",
    [Sample(limit=12, stop=frozenset(), sampling=Sampling(temperature=0.0, repetition_penalty=1.5))],
    ids=["penalties"],
)
def test_what_depends_on_the_tokens_before_is_decoded_one_by_one(sample: Sample) -> None:
    model = small_llama()
    engine, plain = engine_with(model, Repeats()), Engine(model, slots=1, context=200)

    assert write(engine, prompt_of(9), sample) == write(plain, prompt_of(9), sample)
    assert engine.speculation is not None
    assert engine.speculation.guessed == 0


def test_with_two_programs_nothing_is_guessed() -> None:
    model = small_llama()
    engine = Engine(model, slots=2, context=200, speculation=Speculation(Repeats(), clock=stopped))
    sample = Sample(limit=12, stop=frozenset(), sampling=GREEDY)

    def program(prompt: tuple[int, ...]) -> Program:
        yield Given(prompt)
        return (yield sample)

    list(engine.run(Request(program=program(prompt_of(9, seed)), seed=seed) for seed in range(2)))

    assert engine.speculation is not None
    assert engine.speculation.guessed == 0


def test_rope_that_depends_on_the_length_is_decoded_one_by_one() -> None:
    scaling = {"rope_type": "dynamic", "factor": 4.0}
    model = small_llama(rope_scaling=scaling, max_position_embeddings=16)
    engine, plain = engine_with(model, Repeats()), Engine(model, slots=1, context=200)
    sample = Sample(limit=40, stop=frozenset(), sampling=GREEDY)

    assert write(engine, prompt_of(9), sample) == write(plain, prompt_of(9), sample)
    assert engine.speculation is not None
    assert engine.speculation.guessed == 0


def test_more_is_guessed_while_all_is_right() -> None:
    speculation = Speculation(Repeats())

    lengths = []
    for kept in (FIRST_GUESS, 2 * FIRST_GUESS, LONGEST_GUESS, 6, 0):
        speculation.checked(length=10, guessed=speculation.length, kept=kept, seconds=0.0)
        lengths.append(speculation.length)

    assert lengths == [8, 15, 15, 6, 1]


def test_guesses_pause_for_longer_while_checks_take_longer_than_plain_steps() -> None:
    speculation = Speculation(Repeats())
    for _ in range(9):
        speculation.stepped(1.0)

    pauses = []
    for kept, seconds in ((0, 1.5), (1, 2.5), (0, 9.0), (3, 4.0), (0, 2.0)):
        speculation.checked(length=100, guessed=4, kept=kept, seconds=seconds)
        pauses.append(speculation._pause)

    assert pauses == [2, 4, 8, 1, 2]
    assert speculation._pause_until == 102


def test_tokens_checked_together_are_drawn_with_the_probabilities_of_the_model() -> None:
    """4,000 draws from one distribution over five tokens; chi-square below its 99.9 % quantile for four degrees."""
    probabilities = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
    model = ScriptedModel({0: dict(enumerate(map(float, probabilities)))}, vocab_size=5)
    logits = mx.broadcast_to(model.table[0], (4000, 5))
    sampling = Sampling(temperature=1.0)
    feeds = [Feed(token=0, position=place, seed=11, sampling=sampling, first=False) for place in range(4000)]

    tokens: Any = Stepper(model, []).sample_each(logits, feeds).tokens.tolist()

    counts = np.bincount(tokens, minlength=5)
    expected = 4000 * probabilities
    assert float(((counts - expected) ** 2 / expected).sum()) < 18.47


def test_a_draft_with_a_smaller_vocabulary_guesses_within_it() -> None:
    model, draft = small_llama(), small_llama(seed=3, vocab_size=40)
    sampling = Sampling(temperature=0.8, banned=(50, 7), logit_bias=((60, 1.0),))
    sample = Sample(limit=40, stop=frozenset(), sampling=sampling)
    engine, plain = engine_with(model, DraftModel(draft)), Engine(model, slots=1, context=200)
    prompt = tuple(token % 40 for token in prompt_of(9))

    assert write(engine, prompt, sample, 1) == write(plain, prompt, sample, 1)


def test_a_second_text_reuses_what_the_draft_model_holds() -> None:
    model = small_mistral()
    draft = DraftModel(model)
    engine, plain = engine_with(model, draft), Engine(model, slots=1, context=200)
    sample = Sample(limit=20, stop=frozenset(), sampling=GREEDY)

    for prompt in itertools.accumulate((prompt_of(12), prompt_of(5, 1), prompt_of(7, 2))):
        assert write(engine, prompt, sample) == write(plain, prompt, sample)
