"""Rotary frequencies compared with published values, and the rotation."""

import math
from typing import Any

import mlx.core as mx
import pytest

from mlx_suite.modeling.config import ModelConfig
from mlx_suite.modeling.rope import Rope, inverse_frequencies
from mlx_suite.modeling.rope_settings import RopeSettings
from tests.modeling.tiny import PUBLISHED, SHAPE, llama3_rope


def read(**rope: Any) -> RopeSettings:
    return ModelConfig.from_dict(SHAPE | {"model_type": "llama"} | rope).rope


@pytest.mark.parametrize(
    ("factor", "head_dim", "values"),
    [
        (8.0, 128, {28: 0.003211446, 29: 0.0021665708, 34: 1.7850781e-4, 35: 9.5562124e-5, 63: 3.068926e-7}),
        (32.0, 64, {15: 0.0012905479, 17: 9.7082878e-5, 18: 1.9461638e-5, 31: 9.4183067e-8}),
    ],
)
def test_llama_3_scaling_gives_the_published_frequencies(
    factor: float, head_dim: int, values: dict[int, float]
) -> None:
    found = inverse_frequencies(read(**llama3_rope(factor)), head_dim)
    assert {i: found[i] for i in values} == pytest.approx(values, rel=1e-6)


@pytest.mark.parametrize(
    ("factor", "head_dim", "kept", "blended", "stretched"), [(8.0, 128, 29, 6, 29), (32.0, 64, 15, 3, 14)]
)
def test_llama_3_scaling_keeps_blends_and_stretches_frequencies(
    factor: float, head_dim: int, kept: int, blended: int, stretched: int
) -> None:
    plain = inverse_frequencies(read(rope_theta=500000.0), head_dim)
    scaled = inverse_frequencies(read(**llama3_rope(factor)), head_dim)
    ratios = [new / old for new, old in zip(scaled, plain, strict=True)]
    assert sum(math.isclose(r, 1.0, rel_tol=1e-9) for r in ratios) == kept
    assert sum(math.isclose(r, 1 / factor, rel_tol=1e-9) for r in ratios) == stretched
    assert kept + blended + stretched == head_dim // 2


def test_both_generations_of_keys_give_the_same_frequencies() -> None:
    older = llama3_rope(8.0)
    newer = {"rope_parameters": older["rope_scaling"] | {"rope_theta": 500000.0}}
    assert read(**older) == read(**newer)
    assert read(rope_theta=7.0) == read(rope_parameters={"rope_type": "default", "rope_theta": 7.0})


def test_linear_scaling_divides_positions() -> None:
    plain, scaled = read(), read(rope_scaling={"type": "linear", "factor": 4.0})
    assert inverse_frequencies(scaled, 8) == pytest.approx([f / 4 for f in inverse_frequencies(plain, 8)])


def test_gemma_2_and_mistral_default_to_a_rope_base_of_10000() -> None:
    for name in ("Gemma 2 9B", "Mistral 7B v0.1"):
        assert ModelConfig.from_dict(PUBLISHED[name]).rope == RopeSettings(theta=10000.0)


def test_rope_rotates_the_halves_of_a_head_against_each_other() -> None:
    rope = Rope(RopeSettings(theta=100.0), head_dim=4)  # radians per position: 1 and 0.1
    x = mx.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 1, 4)
    turned = rope(x, offset=3).reshape(4).tolist()
    cos, sin = (math.cos(3.0), math.cos(0.3)), (math.sin(3.0), math.sin(0.3))
    expected = [
        1 * cos[0] - 3 * sin[0],
        2 * cos[1] - 4 * sin[1],
        3 * cos[0] + 1 * sin[0],
        4 * cos[1] + 2 * sin[1],
    ]
    assert turned == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("length", [1, 3])
def test_rows_may_have_different_positions(length: int) -> None:
    rope = Rope(RopeSettings(), head_dim=8)
    x = mx.random.normal((3, 2, length, 8))
    together = rope(x, offset=mx.array([0, 5, 40]))
    alone = mx.concatenate([rope(x[i : i + 1], offset=offset) for i, offset in enumerate((0, 5, 40))])
    assert mx.allclose(together, alone, atol=1e-6)


LONG = {
    "dynamic": RopeSettings(kind="dynamic", factor=3.0, original_max_position_embeddings=8),
    "longrope": RopeSettings(
        kind="longrope", factor=3.0, original_max_position_embeddings=8, short_factor=(1.0, 1.2), long_factor=(2.0, 5.0)
    ),
}


@pytest.mark.parametrize("kind", LONG)
def test_frequencies_that_depend_on_length_are_those_of_each_row(kind: str) -> None:
    rope = Rope(LONG[kind], head_dim=4)
    x = mx.random.normal((3, 2, 1, 4))
    together = rope(x, offset=mx.array([0, 7, 20]))
    alone = mx.concatenate([rope(x[i : i + 1], offset=offset) for i, offset in enumerate((0, 7, 20))])
    assert mx.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("kind", LONG)
def test_a_prompt_read_in_chunks_is_rotated_as_a_whole(kind: str) -> None:
    rope = Rope(LONG[kind], head_dim=4)
    x = mx.random.normal((1, 2, 12, 4))
    first = rope(x[:, :, :6], offset=0, length=mx.array([12]))
    assert mx.allclose(first, rope(x, offset=0)[:, :, :6], atol=1e-5)
    assert not mx.allclose(first, rope(x[:, :, :6], offset=0), atol=1e-2)


def test_a_factor_that_is_not_stated_is_the_ratio_of_the_two_contexts() -> None:
    yarn = {"rope_type": "yarn", "original_max_position_embeddings": 32}
    assert read(rope_scaling=yarn).factor == 4.0
    assert read(rope_scaling={"rope_type": "yarn"}, original_max_position_embeddings=64).factor == 2.0


def test_yarn_raises_queries_and_keys_as_its_paper_says() -> None:
    assert read(rope_scaling={"rope_type": "yarn", "factor": 4.0}).amplitude == pytest.approx(1.1386294)
    assert read(rope_scaling={"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.0}).amplitude == 1.0
