"""The weights digest, which shows whether two models are equal."""

import mlx.core as mx

from mlx_suite.checkpoints.digest import weights_digest
from mlx_suite.checkpoints.quantization import quantize_base
from tests.modeling.tiny import tiny_model


def test_a_bfloat16_model_and_its_float32_copy_have_the_same_digest() -> None:
    model = tiny_model("llama")
    wide = weights_digest(model)
    model.set_dtype(mx.bfloat16)
    narrow = weights_digest(model)
    model.set_dtype(mx.float32)
    assert weights_digest(model) == narrow != wide
    assert len(narrow) == 12 and int(narrow, 16) >= 0


def test_one_changed_weight_changes_the_digest() -> None:
    model = tiny_model("llama")
    before = weights_digest(model)
    assert weights_digest(tiny_model("llama")) == before
    weight = model.layers[1].mlp.up_proj.weight
    weight[3, 4] = weight[3, 4] * 1.001
    assert weights_digest(model) != before


def test_the_digest_covers_quantized_weights() -> None:
    one, other = (tiny_model("llama", hidden_size=64) for _ in range(2))
    quantize_base(one, bits=4)
    quantize_base(other, bits=8)
    assert weights_digest(one) != weights_digest(other)
