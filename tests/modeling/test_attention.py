"""Attention: masks, the order of scaling, capping and masking, and grouped heads."""

from math import tanh
from typing import Any

import mlx.core as mx
import pytest

from mlx_suite.modeling import attention
from mlx_suite.modeling.attention import attend
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.modeling.masks import attention_mask, causal_mask
from tests.modeling.tiny import PUBLISHED, largest_difference

CAPS = pytest.mark.parametrize("cap", [None, 50.0], ids=["uncapped", "capped"])


def naive(q: mx.array, k: mx.array, v: mx.array, scale: float, cap: float | None, mask: mx.array) -> mx.array:
    """Attention in plain MLX operations, with keys and values repeated for each query head."""
    repeats = q.shape[1] // k.shape[1]
    k, v = mx.repeat(k, repeats, axis=1), mx.repeat(v, repeats, axis=1)
    scores = (q * scale) @ k.swapaxes(-1, -2)
    if cap is not None:
        scores = cap * mx.tanh(scores / cap)
    return mx.softmax(mx.where(mask, scores, -mx.inf), axis=-1) @ v


def random_qkv(length: int, keys: int, batch: int = 2) -> tuple[mx.array, mx.array, mx.array]:
    mx.random.seed(1)
    return (
        3 * mx.random.normal((batch, 6, length, 8)),
        3 * mx.random.normal((batch, 2, keys, 8)),
        mx.random.normal((batch, 2, keys, 8)),
    )


@CAPS
def test_attention_equals_its_formula(cap: float | None) -> None:
    q, k, v = random_qkv(5, 9)
    mask = causal_mask(9)[4:]
    assert largest_difference(attend(q, k, v, 0.3, cap, mask), naive(q, k, v, 0.3, cap, mask)) < 2e-5
    assert largest_difference(attend(q, k, v, 0.3, cap, "causal"), naive(q, k, v, 0.3, cap, mask)) < 2e-5


@CAPS
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_masks_may_differ_between_rows(cap: float | None, dtype: mx.Dtype) -> None:
    q, k, v = (x.astype(dtype) for x in random_qkv(4, 4))
    masks = mx.stack([causal_mask(4), causal_mask(4, window=2)])[:, None]  # (B, 1, L, S)
    together = attend(q, k, v, 0.3, cap, masks)
    for row in range(2):
        alone = attend(q[row : row + 1], k[row : row + 1], v[row : row + 1], 0.3, cap, masks[row, 0])
        assert largest_difference(together[row : row + 1], alone) < 1e-6


@CAPS
@pytest.mark.parametrize("scores", [1, 250, 400, 10**6])
@pytest.mark.parametrize("kind", ["causal", "none", "array", "by row", "one for all queries"])
def test_many_scores_are_computed_for_a_few_queries_at_a_time(
    kind: str, scores: int, cap: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    q, k, v = random_qkv(5, 9)
    masks: dict[str, Any] = {
        "causal": "causal",
        "none": None,
        "array": causal_mask(9, window=3)[4:],
        "by row": mx.stack([causal_mask(9)[4:], causal_mask(9, window=2)[4:]])[:, None],
        "one for all queries": mx.arange(9)[None] < 6,
    }
    expected = attend(q, k, v, 0.3, cap, masks[kind])
    monkeypatch.setattr(attention, "SCORES", scores)  # one query has 108
    monkeypatch.setattr(attention, "FEWEST", 1)
    assert largest_difference(attend(q, k, v, 0.3, cap, masks[kind]), expected) < 2e-6


@CAPS
def test_adjacent_query_heads_share_a_key_head(cap: float | None) -> None:
    q = mx.ones((1, 6, 1, 4))
    k = mx.ones((1, 2, 3, 4))
    v = mx.broadcast_to(mx.array([10.0, 20.0]).reshape(1, 2, 1, 1), (1, 2, 3, 4))
    heads = attend(q, k, v, 0.5, cap, None)[0, :, 0, 0].tolist()
    assert heads == pytest.approx([10, 10, 10, 20, 20, 20])


@pytest.mark.parametrize("cap", [None, 1.0], ids=["uncapped", "capped"])
def test_a_masked_key_has_no_weight_with_or_without_a_cap(cap: float | None) -> None:
    """If the cap were applied after the mask, −∞ would become −cap and the key would be visible."""
    q, k, _ = random_qkv(3, 3, batch=1)
    v = mx.array([1.0, 1000.0, 1000.0]).reshape(1, 1, 3, 1) * mx.ones((1, 2, 3, 8))
    out = attend(q, k, v, 0.3, cap, causal_mask(3))
    assert out[0, :, 0].tolist() == [[1.0] * 8] * 6


def test_scores_are_scaled_before_the_cap() -> None:
    """Two keys with scores 8 and 0 before scaling by 1/2, with a cap of 2."""
    q = mx.array([8.0, 0.0]).reshape(1, 1, 1, 2)
    k = mx.array([[1.0, 0.0], [0.0, 1.0]]).reshape(1, 1, 2, 2)
    out = attend(q, k, k, scale=0.5, cap=2.0, mask=None).reshape(2).tolist()
    first = 1 / (1 + 2.718281828 ** (-2 * tanh(8 * 0.5 / 2)))
    assert out == pytest.approx([first, 1 - first], abs=1e-5)


@CAPS
def test_a_fully_masked_query_gives_finite_values(cap: float | None) -> None:
    q, k, v = random_qkv(2, 4)
    out = attend(q, k, v, 0.3, cap, mx.zeros((2, 4), dtype=mx.bool_))
    assert mx.isfinite(out).all().item()


def test_softmax_of_bf16_scores_is_computed_in_fp32() -> None:
    """Each of 1024 equal keys has weight 1/1024; in bf16 256 + 1 is already 256."""
    q = mx.zeros((1, 1, 1, 4), dtype=mx.bfloat16)
    k = mx.zeros((1, 1, 1024, 4), dtype=mx.bfloat16)
    v = mx.ones((1, 1, 1024, 4), dtype=mx.bfloat16)
    out = attend(q, k, v, 1.0, 50.0, None)
    assert out.dtype == mx.bfloat16
    assert out.reshape(4).tolist() == [1.0] * 4


def test_a_sliding_window_includes_the_query_itself() -> None:
    assert causal_mask(5, window=2).astype(mx.int32).tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 0, 1, 1],
    ]


def test_gemma_2_attends_to_exactly_the_last_4096_positions() -> None:
    last = causal_mask(4098, window=4096)[-1].tolist()
    assert (last[0], last[1], last[2], last[4097], sum(last)) == (False, False, True, True, 4096)


def test_without_a_cache_a_mask_describes_whole_rows() -> None:
    assert attention_mask(1, None, window=3) is None
    mask: Any = attention_mask(4, None, window=3)
    assert (mask.plain, mask.reach) == (False, 3)
    assert mask.first.tolist() == [[0, 0, 0, 1]]
    assert mask.array[0, 0].tolist() == causal_mask(4, window=3).tolist()


@pytest.mark.parametrize("window", [None, 4, 9])
def test_a_row_that_fits_into_the_window_is_plainly_causal(window: int | None) -> None:
    mask: Any = attention_mask(4, None, window)
    assert (mask.plain, mask.reach) == (True, 4)
    assert mask.array[0, 0].tolist() == causal_mask(4).tolist()


@pytest.mark.parametrize(
    ("name", "scale"),
    [("Gemma 2 2B", 1 / 16), ("Gemma 2 9B", 1 / 16), ("Gemma 2 27B", 1 / 12), ("Llama 3.2 1B", 1 / 8)],
)
def test_queries_are_scaled_as_configured(name: str, scale: float) -> None:
    """Gemma 2 27B scales by 1/√144 = 1/√(4608 / 32) although its head dimension is 128."""
    assert ModelConfig.from_dict(PUBLISHED[name]).scale == pytest.approx(scale, rel=1e-12)


def test_gemma_2_starts_with_a_local_layer_and_mistral_has_only_local_layers() -> None:
    assert ModelConfig.from_dict(PUBLISHED["Gemma 2 2B"]).windows == (4096, None) * 13
    assert ModelConfig.from_dict(PUBLISHED["Mistral 7B v0.1"]).windows == (4096,) * 32
    assert ModelConfig.from_dict(PUBLISHED["Llama 3.1 8B"]).windows == (None,) * 32
