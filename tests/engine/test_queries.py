"""Queries match a full forward pass and leave the sequence unchanged; a rewound row continues like a new one."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_suite.engine import Engine, Given, Program, Queries, Query, Request, Rewind, Sample, Sampling
from mlx_suite.engine.prefix_cache import MAX_TOKENS
from mlx_suite.runtime.errors import UserError
from tests.engine.small_models import GREEDY, one_text, prompt_of, results, small_llama, written_by_mlx_lm
from tests.engine.test_scoring import LABELS, MODELS, log_probs

QUERIES = (
    Query(tokens=(50, 51, 52), labels=LABELS),
    Query(tokens=(53,), labels=((9,), (10,))),
    Query(tokens=(54, 55), state=True),
    Query(tokens=(50, 51), labels=((3, 4), (3, 5), (6,)), state=True),
)


def hidden_state(model: Any, text: Sequence[int]) -> Any:
    """The last hidden state of a full forward pass."""
    return np.array(model.model(mx.array([list(text)]))[0, -1])


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("count", [1, 3, 30])
def test_queries_match_a_full_forward_pass_and_leave_the_text_unchanged(kind: str, count: int) -> None:
    model = MODELS[kind]()

    def program(prompt: tuple[int, ...]) -> Program:
        yield Given(prompt)
        text = yield Sample(limit=count, stop=frozenset(), sampling=GREEDY)
        replies = yield Queries(QUERIES)
        rest = yield Sample(limit=12, stop=frozenset(), sampling=GREEDY)
        return text.tokens, replies, rest.tokens

    prompts = [prompt_of(6 + i, seed=i) for i in range(4)]
    requests = [Request(program=program(prompt), seed=i) for i, prompt in enumerate(prompts)]
    for done in Engine(model, slots=3).run(requests):
        text, replies, rest = done.result
        sequence = (*prompts[done.request.seed], *text)
        for query, reply in zip(QUERIES, replies, strict=True):
            text_of_query = (*sequence, *query.tokens)
            assert reply.log_probs == pytest.approx(log_probs(model, text_of_query, query.labels), abs=1e-4)
            if query.labels:
                assert reply.index == max(range(len(query.labels)), key=reply.log_probs.__getitem__)
            if query.state:
                assert reply.state == pytest.approx(hidden_state(model, text_of_query), abs=1e-4)
        assert [reply.state is not None for reply in replies] == [False, False, True, True]
        assert rest == written_by_mlx_lm(model, sequence, 12)


def test_queries_that_exceed_the_context_have_no_replies() -> None:
    def program() -> Program:
        yield Given(prompt_of(14))
        return (yield Queries(QUERIES[:2])), (yield Queries(QUERIES[1:2]))

    (done,) = Engine(small_llama(), slots=1, context=16).run([Request(program=program())])
    too_long, fitting = done.result
    assert too_long is None
    assert len(fitting) == 1


def test_tokens_of_queries_are_counted() -> None:
    def program() -> Program:
        yield Given((1, 2))
        yield Queries(QUERIES)

    engine = Engine(small_llama(), slots=1)
    list(engine.run([Request(program=program()), Request(program=program())]))
    assert engine.stats.queried == 2 * (3 + 1 + 2 + 2)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("count", [2, 30])
@pytest.mark.parametrize("forced", [2, 40])
def test_after_a_rewind_a_row_continues_like_a_new_one(kind: str, count: int, forced: int) -> None:
    model = MODELS[kind]()
    cleaned = prompt_of(forced, seed=9)

    def program(prompt: tuple[int, ...]) -> Program:
        yield Given(prompt)
        yield Sample(limit=count, stop=frozenset(), sampling=GREEDY)
        yield Rewind(len(prompt))
        yield Given(cleaned)
        replies = yield Queries(QUERIES[:1])
        rest = yield Sample(limit=12, stop=frozenset(), sampling=GREEDY)
        return replies, rest.tokens

    prompts = [prompt_of(6 + i, seed=i) for i in range(4)]
    requests = [Request(program=program(prompt), seed=i) for i, prompt in enumerate(prompts)]
    for done in Engine(model, slots=3).run(requests):
        (reply,), rest = done.result
        sequence = (*prompts[done.request.seed], *cleaned)
        assert rest == written_by_mlx_lm(model, sequence, 12)
        assert reply.log_probs == pytest.approx(log_probs(model, (*sequence, 50, 51, 52), LABELS), abs=1e-4)


def test_another_salt_gives_another_text_at_the_same_place() -> None:
    def program(*salts: int) -> Program:
        texts = []
        for salt in salts:
            yield Given((5, 6))
            written = yield Sample(limit=8, stop=frozenset(), sampling=Sampling(temperature=1.0), salt=salt)
            texts.append(written.tokens)
            yield Rewind(1)
        return texts

    def texts(*salts: int) -> list[tuple[int, ...]]:
        (done,) = Engine(small_llama(), slots=1).run([Request(program=program(*salts), seed=3)])
        written: list[tuple[int, ...]] = done.result
        return written

    first, *others = texts(0)
    assert not others
    assert texts(0, 1)[0] == first
    again = texts(1)[0]
    assert again != first
    assert texts(1)[0] == again


def test_the_hidden_state_of_a_prefix_of_another_query_costs_no_row() -> None:
    model = small_llama()
    scored = Query(tokens=(50, 51, 52), labels=((9,), (10,)))
    states = [Query(tokens=tokens, state=True) for tokens in ((), (50, 51), (50, 51, 52), (7,))]
    rows: list[int] = []
    body = model.model

    def counted(tokens: mx.array, cache: Any = None) -> mx.array:
        rows.append(tokens.shape[0])
        return body(tokens, cache)

    def program() -> Program:
        yield Given((5,))
        return (yield Queries((*states, scored)))

    model.model = counted
    (done,) = Engine(model, slots=1).run([Request(program=program())])
    model.model = body
    assert sum(rows) == 2
    for query, reply in zip(states, done.result, strict=False):
        assert reply.state == pytest.approx(hidden_state(model, (5, *query.tokens)), abs=1e-4)
    assert done.result[-1].log_probs == pytest.approx(log_probs(model, (5, 50, 51, 52), scored.labels), abs=1e-4)


def test_each_of_several_headers_is_prefilled_once() -> None:
    headers = [prompt_of(20, seed=seed) for seed in range(3)]
    sample = Sample(limit=4, stop=frozenset())
    engine = Engine(small_llama(), slots=2)
    requests = [Request(program=one_text(headers[i % 3], sample), seed=i) for i in range(30)]
    assert len(results(engine.run(requests))) == 30
    assert engine.stats.prefilled == 3 * 19


def test_old_headers_are_evicted_and_the_latest_is_kept_regardless_of_its_length() -> None:
    engine = Engine(small_llama(), slots=1, context=3 * MAX_TOKENS)
    sample = Sample(limit=1, stop=frozenset())
    for length in (100, 200, MAX_TOKENS + 500):
        list(engine.run([Request(program=one_text(prompt_of(length, seed=length), sample))]))
        assert len(engine.prefixes.entries[0].tokens) == length - 1
    assert len(engine.prefixes.entries) == 1


def test_most_queries_do_not_wait_for_an_idle_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def program() -> Program:
        yield Given(prompt_of(6))
        for _ in range(20):
            yield Queries((Query(tokens=(50, 51, 52), labels=((9,), (10,))),))

    waits: list[None] = []
    monkeypatch.setattr(mx, "synchronize", lambda: waits.append(None))
    engine = Engine(small_llama(), slots=1)
    list(engine.run([Request(program=program())]))

    assert len(waits) == 2  # the second and the nineteenth
    assert (engine.stats.queried, engine.stats.timed) == (60, 6)
    assert engine.stats.query_seconds == pytest.approx(10 * engine.stats.timed_seconds)


def test_a_model_that_returns_nan_is_a_user_error() -> None:
    def program() -> Program:
        yield Given(prompt_of(6))
        yield Queries((Query(tokens=(50,), labels=((9,), (10,))),))

    model = small_llama()
    model.model.norm.weight = model.model.norm.weight * float("nan")
    with pytest.raises(UserError, match="contain NaN or inf"):
        list(Engine(model, slots=1).run([Request(program=program())]))
