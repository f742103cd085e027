"""Sizes from a configuration, against published parameter counts and worked examples."""

import pytest

from mlx_suite.runtime.footprint import (
    bits_per_weight,
    bytes_read_per_token,
    cache_bytes,
    kv_bytes_per_token,
    local_layers,
    parameter_count,
    weight_bytes,
)
from mlx_suite.runtime.machine import REFERENCE_MODELS

LLAMA_8B = REFERENCE_MODELS["Llama 3 8B"]
GEMMA_9B = REFERENCE_MODELS["Gemma 2 9B"]
GEMMA_2B = REFERENCE_MODELS["Gemma 2 2B"]
FOUR_BITS = {"quantization": {"group_size": 64, "bits": 4}}


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("Llama 3.2 1B", 1_235_814_400),
        ("Llama 3.2 3B", 3_212_749_824),
        ("Llama 3 8B", 8_030_261_248),
        ("Gemma 2 2B", 2_614_341_888),
        ("Gemma 2 9B", 9_241_705_984),
        ("Gemma 2 27B", 27_227_128_320),
    ],
)
def test_parameters_are_counted_exactly(model: str, parameters: int) -> None:
    assert parameter_count(REFERENCE_MODELS[model]) == parameters


def test_a_token_adds_the_published_bytes_to_the_kv_cache() -> None:
    assert kv_bytes_per_token(LLAMA_8B) == 131_072
    assert kv_bytes_per_token(GEMMA_9B) == 344_064
    assert kv_bytes_per_token(GEMMA_2B) == 106_496


def test_local_layers_keep_at_most_their_window() -> None:
    assert local_layers(GEMMA_9B) == 21
    assert cache_bytes(GEMMA_9B, 4096) == 4096 * 344_064
    assert round(cache_bytes(GEMMA_9B, 8192) / 1e9, 1) == 2.1
    assert cache_bytes(LLAMA_8B, 8192) == 8192 * 131_072


def test_four_bits_in_groups_of_64_read_four_and_a_half_bits_per_weight() -> None:
    assert round(bytes_read_per_token(LLAMA_8B | FOUR_BITS) / 1e9, 1) == 4.2
    assert round(bytes_read_per_token(GEMMA_9B | FOUR_BITS) / 1e9, 1) == 5.2
    assert round(bytes_read_per_token(GEMMA_2B | FOUR_BITS) / 1e9, 2) == 1.47


def test_an_untied_embedding_is_stored_but_not_read_in_a_decode_step() -> None:
    embedding = 128256 * 4096 * 4.5 / 8

    stored, read = weight_bytes(LLAMA_8B | FOUR_BITS), bytes_read_per_token(LLAMA_8B | FOUR_BITS)

    assert stored - read == pytest.approx(embedding, rel=0.01)


def test_the_cpu_needs_four_bytes_per_parameter() -> None:
    assert weight_bytes(LLAMA_8B | FOUR_BITS, bits=32) == 4 * 8_030_261_248


@pytest.mark.parametrize(
    ("config", "bits"),
    [
        ({}, 16.0),
        ({"torch_dtype": "float32"}, 32.0),
        ({"dtype": "torch.float16"}, 16.0),
        (FOUR_BITS, 4.5),
        ({"quantization": {"group_size": 32, "bits": 8}}, 9.0),
        ({"quantization": {"mode": "mxfp4", "bits": 4}}, 4.25),
        ({"quantization": {"mode": "nvfp4", "bits": 4}}, 4.5),
    ],
)
def test_bits_per_weight_are_those_of_the_checkpoint(config: dict[str, object], bits: float) -> None:
    assert bits_per_weight(config) == bits


def test_local_layers_are_counted_however_the_configuration_states_them() -> None:
    layers = {"num_hidden_layers": 3, "sliding_window": 8}

    assert local_layers(layers | {"model_type": "gemma2"}) == 2
    assert local_layers(layers | {"model_type": "mistral"}) == 3
    assert local_layers(layers | {"model_type": "qwen2"}) == 0
    assert local_layers(layers | {"sliding_window": None, "model_type": "mistral"}) == 0
    assert local_layers(layers | {"model_type": "gemma3_text", "num_hidden_layers": 26}) == 22
    assert local_layers(layers | {"model_type": "gemma3_text", "sliding_window_pattern": 3}) == 2
    assert local_layers(layers | {"model_type": "qwen3", "max_window_layers": 1}) == 0
    assert local_layers(layers | {"model_type": "qwen3", "max_window_layers": 1, "use_sliding_window": True}) == 2
    types = ["sliding_attention", "full_attention", "full_attention"]
    assert local_layers(layers | {"layer_types": types}) == 1
