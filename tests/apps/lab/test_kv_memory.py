"""KV caches with and without rings: their bytes, and the logits of models that use them."""

import mlx.core as mx
import pytest
from mlx_lm.models.gemma2 import Model, ModelArgs

from mlx_suite.modeling.decoder import Decoder
from mlx_suite_apps.lab.decode_speed import decode_speeds, filled_caches, kv_bytes_per_token
from mlx_suite_apps.lab.kv_memory import ENGINE, FULL, MLX_LM, RING, cache_sides, kv_bytes, prefill_and_decode
from tests.modeling.tiny import FAMILIES, tiny_model, tokens

GEMMA2 = FAMILIES["gemma2"] | {"num_hidden_layers": 2, "query_pre_attn_scalar": 8}


def theirs(ours: Decoder | None = None) -> Model:
    """mlx-lm's model of the tiny shape, with the weights of ours."""
    model = Model(ModelArgs.from_dict(GEMMA2))
    if ours is not None:
        model.update(ours.parameters())
    return model


def test_a_ring_holds_the_window_and_a_whole_cache_every_token() -> None:
    ours = tiny_model("gemma2", num_hidden_layers=2, sliding_window=4)
    rows = list(kv_bytes(ours, theirs(), [256, 512], chunk=16))
    layer = 2 * 2 * 16 * 2  # bytes of a token: keys and values, 2 heads of 16 dimensions, bf16
    decoded = {(row["side"], row["context"]): row["decode"] for row in rows}
    assert decoded == {
        (RING, 256): layer * (4 + 256),
        (RING, 512): layer * (4 + 512),
        (FULL, 256): layer * (256 + 256),
        (FULL, 512): layer * (512 + 512),
        (MLX_LM, 256): layer * (256 + 256),
        (MLX_LM, 512): layer * (512 + 512),
        (ENGINE, 256): layer * (4 + 256),
        (ENGINE, 512): layer * (4 + 512),
    }
    # The last chunk of 15 beside the window, less the key that no query of the chunk sees.
    prefilled = {(row["side"], row["context"]): row["prefill"] for row in rows}
    assert prefilled[RING, 256] == layer * (4 + 15 - 1 + 256)


def test_rings_do_not_change_the_logits_but_a_missing_window_does() -> None:
    ours = tiny_model("gemma2", num_hidden_layers=2)
    rows = list(prefill_and_decode(cache_sides(ours, theirs(ours)), tokens(40), [4, 30], steps=2, chunk=7))
    assert [(row["side"], row["context"]) for row in rows] == [
        (side, context) for context in (4, 30) for side in (RING, FULL, MLX_LM)
    ]
    by_side = {(row["side"], row["context"]): row["difference"] for row in rows}
    assert by_side[FULL, 30] < 1e-4
    assert by_side[MLX_LM, 4] < 1e-4 < by_side[MLX_LM, 30]
    assert all(row["prefill_peak_bytes"] > 0 and row["decode_seconds"] > 0 for row in rows)


@pytest.mark.parametrize("key_heads", [4, 1])
def test_bytes_per_token_follow_the_key_value_heads(key_heads: int) -> None:
    model = tiny_model("llama", num_key_value_heads=key_heads)
    assert kv_bytes_per_token(model) == 3 * 2 * key_heads * 16 * 4  # layers, keys and values, heads, dimensions, fp32


def test_models_take_turns_at_the_same_context() -> None:
    models = {"many": tiny_model("llama", num_key_value_heads=4), "one": tiny_model("llama", num_key_value_heads=1)}
    speeds = decode_speeds(models, rows=2, context=20, steps=2, repeats=2)
    assert list(speeds) == ["many", "one"] and min(speeds.values()) > 0
    caches = filled_caches(models["one"], 2, 20)
    assert [cache.offset for cache in caches] == [20, 20, 20]
    assert caches[0].keys.shape[:2] == (2, 1) and caches[0].keys.dtype == mx.float32
