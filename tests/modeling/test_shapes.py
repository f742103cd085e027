"""Parameter counts of published models, without computing weights."""

from math import prod

import pytest

from mlx_suite.checkpoints.load import build_model
from mlx_suite.checkpoints.weights import parameter_shapes
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.runtime.footprint import parameter_count
from tests.modeling.tiny import PUBLISHED


def count(name: str) -> int:
    model = build_model(ModelConfig.from_dict(PUBLISHED[name]))
    return sum(prod(shape) for shape in parameter_shapes(model).values())


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Llama 3.2 1B", 1_235_814_400),
        ("Llama 3.2 3B", 3_212_749_824),
        ("Llama 3.1 8B", 8_030_261_248),
        ("Mistral 7B v0.1", 7_241_732_096),
        ("Gemma 2 2B", 2_614_341_888),
        ("Gemma 2 9B", 9_241_705_984),
        ("Gemma 2 27B", 27_227_128_320),
        ("Gemma 3 270M", 268_098_176),
        ("Gemma 3 1B", 999_885_952),
        ("Qwen 3 0.6B", 596_049_920),
        ("Qwen 3 8B", 8_190_735_360),
        ("TinyStories 260K", 260_032),
        ("TinyStories 15M", 15_191_712),
    ],
)
def test_a_published_model_has_its_exact_parameter_count(name: str, parameters: int) -> None:
    assert count(name) == parameters
    assert parameter_count(PUBLISHED[name]) == parameters


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("Gemma 2 2B", 2_024_517_888), ("Gemma 2 9B", 8_324_201_984), ("Gemma 2 27B", 26_047_480_320)],
)
def test_gemma_2_without_its_embedding_has_the_parameter_count_of_its_report(name: str, parameters: int) -> None:
    embedding = PUBLISHED[name]["vocab_size"] * PUBLISHED[name]["hidden_size"]
    assert count(name) - embedding == parameters


def test_parameters_have_their_hugging_face_names() -> None:
    config = PUBLISHED["Gemma 2 2B"] | {"num_hidden_layers": 1}
    shapes = parameter_shapes(build_model(ModelConfig.from_dict(config)))
    assert shapes == {
        "model.embed_tokens.weight": (256000, 2304),
        "model.layers.0.self_attn.q_proj.weight": (2048, 2304),
        "model.layers.0.self_attn.k_proj.weight": (1024, 2304),
        "model.layers.0.self_attn.v_proj.weight": (1024, 2304),
        "model.layers.0.self_attn.o_proj.weight": (2304, 2048),
        "model.layers.0.mlp.gate_proj.weight": (9216, 2304),
        "model.layers.0.mlp.up_proj.weight": (9216, 2304),
        "model.layers.0.mlp.down_proj.weight": (2304, 9216),
        "model.layers.0.input_layernorm.weight": (2304,),
        "model.layers.0.post_attention_layernorm.weight": (2304,),
        "model.layers.0.pre_feedforward_layernorm.weight": (2304,),
        "model.layers.0.post_feedforward_layernorm.weight": (2304,),
        "model.norm.weight": (2304,),
    }


def test_an_untied_head_has_its_own_weights() -> None:
    shapes = parameter_shapes(build_model(ModelConfig.from_dict(PUBLISHED["Llama 3.1 8B"])))
    assert shapes["lm_head.weight"] == (128256, 4096)
