"""The engine's text is mlx-lm's and does not depend on batch, order or chunks."""

import importlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import mlx.core as mx
import pytest

from mlx_suite.engine import Engine, Given, Program, Request, Sample, Sampling, prefill
from mlx_suite.runtime.errors import UserError
from tests.engine.small_models import (
    GREEDY,
    SHAPE,
    one_text,
    prompt_of,
    randomized,
    results,
    small_gemma,
    small_llama,
    small_mistral,
    write,
    written_by_mlx_lm,
)

STOP = frozenset({1, 2, 3})
MODELS = {"llama": small_llama, "gemma with a window of 8": small_gemma, "mistral with a window of 8": small_mistral}
SETTINGS = (
    Sampling(),
    Sampling(temperature=0.7, top_p=0.9),
    GREEDY,
    Sampling(temperature=1.3, min_p=0.05, banned=(5,), banned_first=(1, 2, 3)),
)


def conversation(i: int) -> Program:
    """Texts of several lengths with forced text between, long enough to wrap a ring buffer of 8 several times."""
    yield Given((60, 61, 62))
    instruction = yield Sample(limit=5 + i * 7 % 40, stop=STOP, sampling=SETTINGS[i % 4])
    yield Given((9, 62) if i % 3 else prompt_of(20, seed=i))
    response = yield Sample(limit=10 + i * 11 % 30, stop=STOP, sampling=SETTINGS[(i + 1) % 4])
    return instruction, response


def conversations(order: Any) -> Iterator[Request]:
    return (Request(program=conversation(i), seed=i) for i in order)


@pytest.mark.parametrize("kind", MODELS)
def test_rows_are_equal_in_every_batch_and_order(kind: str) -> None:
    model = MODELS[kind]()
    alone = results(Engine(model, slots=1, context=256).run(conversations(range(18))))
    lengths = [len(instruction.tokens) + len(response.tokens) for instruction, response in alone.values()]
    assert max(lengths) > 40 and len(set(lengths)) > 8
    assert {written.reason for row in alone.values() for written in row} == {"stop", "limit"}
    for slots in (3, 16):
        assert results(Engine(model, slots=slots, context=256).run(conversations(range(18)))) == alone
    backwards = Engine(model, slots=8, context=256)
    assert results(backwards.run(conversations(range(17, -1, -1)))) == alone
    shuffled = [7, 3, 0, 12, 5, 1, 9, 16, 2, 11, 4, 14, 8, 17, 6, 10, 13, 15]
    assert results(backwards.run(conversations(shuffled))) == alone


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("kind", ["llama", "gemma with a window of 8"])
def test_a_compiled_step_gives_the_same_text_as_a_plain_one(kind: str) -> None:
    model = MODELS[kind]()
    alone = results(Engine(model, slots=1, context=256).run(conversations(range(12))))
    together = results(Engine(model, slots=8, context=256).run(conversations(range(12))))
    mx.disable_compile()
    plain = results(Engine(model, slots=8, context=256).run(conversations(range(12))))
    mx.enable_compile()
    assert together == alone
    assert plain == alone


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 40])
@pytest.mark.parametrize("chunk", [512, 5, 16])
@pytest.mark.parametrize("kind", MODELS)
def test_greedy_text_is_mlx_lms(kind: str, chunk: int, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefill, "CHUNK", chunk)
    model = MODELS[kind](seed=length)
    prompt = prompt_of(length, seed=length)
    sample = Sample(limit=30, stop=frozenset(), sampling=GREEDY)
    text = write(Engine(model, slots=1), prompt, sample)
    assert text == written_by_mlx_lm(model, prompt, 30)
    assert len(set(text)) > 3, "the text is too repetitive for a comparison"


@pytest.mark.parametrize("chunk", [3, 8, 13])
def test_prefill_in_chunks_gives_the_same_text_as_in_one_chunk(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks equal to, shorter and longer than the window, after text that has wrapped the ring buffer."""
    model = small_gemma(window=8)

    def program() -> Program:
        yield Given(prompt_of(11))
        first = yield Sample(limit=12, stop=frozenset(), sampling=GREEDY)
        yield Given(prompt_of(29, seed=1))
        second = yield Sample(limit=20, stop=frozenset(), sampling=GREEDY)
        return first.tokens, second.tokens

    (whole,) = Engine(model, slots=2).run([Request(program=program())])
    monkeypatch.setattr(prefill, "CHUNK", chunk)
    (chunked,) = Engine(model, slots=2).run([Request(program=program())])
    assert chunked.result == whole.result
    first, second = whole.result
    assert first == written_by_mlx_lm(model, prompt_of(11), 12)
    assert second == written_by_mlx_lm(model, (*prompt_of(11), *first, *prompt_of(29, seed=1)), 20)


@pytest.mark.parametrize("kind", MODELS)
def test_a_reused_slot_writes_like_a_new_one(kind: str) -> None:
    """Starts equal to, branching from, shorter and longer than the slot's content, before and after a ring wraps."""
    model = MODELS[kind]()
    start = prompt_of(30)
    prompts = [start[:n] for n in (4, 7, 8, 9, 3, 30, 30, 12, 30, 1, 30)]
    prompts += [start[:5] + (63, 62), start[:5] + (63, 61, 60), start[:20] + prompt_of(9, seed=2), start[:20]]
    limits = [2 if i % 2 else 15 for i in range(len(prompts))]
    expected = [(text, "limit") for text in map(partial(written_by_mlx_lm, model), prompts, limits)]
    for slots in (1, 2):
        engine = Engine(model, slots=slots)
        for _ in range(2):
            samples = [Sample(limit=limit, stop=frozenset(), sampling=GREEDY) for limit in limits]
            programs = map(one_text, prompts, samples)
            done = results(engine.run(Request(program=each, seed=i) for i, each in enumerate(programs)))
            assert [done[i] for i in range(len(prompts))] == expected


@pytest.mark.parametrize("kind", MODELS)
def test_the_next_turn_of_a_conversation_reuses_the_kv_cache_of_its_slot(kind: str) -> None:
    model = MODELS[kind]()
    engine = Engine(model, slots=1)
    sample = Sample(limit=15, stop=frozenset(), sampling=GREEDY)
    history = prompt_of(20)
    for turn in range(3):
        text = write(engine, history, sample)
        assert text == written_by_mlx_lm(model, history, 15)
        history = (*history, *text, *prompt_of(5, seed=turn))
    # 19 tokens of the first prompt, then only the new turns: the last sampled token has been fed already.
    assert engine.stats.prefilled == 19 + 4 + 4


# ---- mlx-lm's own models


ZOO = {
    "llama": {},
    "qwen2": {"tie_word_embeddings": False},
    "qwen3": {"tie_word_embeddings": True},
    "phi3": {"tie_word_embeddings": False},
    "gemma3_text": {"sliding_window": 8, "sliding_window_pattern": 2, "query_pre_attn_scalar": 8},
    # Keys and values have different sizes, and masks must be arrays.
    "deepseek_v3": {
        "num_key_value_heads": 4,
        "moe_intermediate_size": 32,
        "n_shared_experts": None,
        "n_routed_experts": None,
        "first_k_dense_replace": 2,
        "kv_lora_rank": 16,
        "q_lora_rank": None,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 8,
    },
}


def zoo_model(name: str) -> Any:
    module = importlib.import_module(f"mlx_lm.models.{name}")
    shape = SHAPE | {"model_type": name, "rope_theta": 10000.0, "max_position_embeddings": 512}
    return randomized(module.Model(module.ModelArgs.from_dict(shape | ZOO[name])), seed=4)


@pytest.mark.parametrize("name", ZOO)
def test_mlx_lms_models_run_in_the_engine(name: str) -> None:
    model = zoo_model(name)
    sample = Sample(limit=30, stop=frozenset(), sampling=GREEDY)
    prompts = [prompt_of(length, seed=length) for length in (1, 5, 8, 23, 40)]
    expected = [written_by_mlx_lm(model, prompt, 30) for prompt in prompts]
    engine = Engine(model, slots=3)
    done = results(engine.run(Request(program=one_text(prompt, sample), seed=i) for i, prompt in enumerate(prompts)))
    assert [done[i] for i in range(5)] == [(text, "limit") for text in expected]
    assert len({token for text in expected for token in text}) > 15, "the texts are too repetitive for a comparison"

    first = expected[0][0]
    other = write(engine, prompts[0], replace(sample, sampling=Sampling(temperature=0.0, banned=(first,))))
    assert first not in other and len(other) == 30


def test_a_model_that_caches_anything_but_keys_and_values_is_refused() -> None:
    from mlx_lm.models.mamba import Model, ModelArgs

    model = Model(
        ModelArgs(
            model_type="mamba",
            vocab_size=64,
            hidden_size=32,
            intermediate_size=64,
            state_size=4,
            num_hidden_layers=2,
            conv_kernel=4,
            use_bias=False,
            use_conv_bias=True,
            time_step_rank=4,
        )
    )
    with pytest.raises(UserError, match="mamba layers use a ArraysCache, which cannot be rewound"):
        Engine(model)
