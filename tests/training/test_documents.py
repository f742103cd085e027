"""Packed documents are independent: logits, loss and gradients are those of each document alone."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_suite.data.batch.rows import Document, Rows, pack
from mlx_suite.runtime.errors import UserError
from mlx_suite.training.documents import document_caches, document_sizes, longest_document, refuse_packing
from mlx_suite.training.loss import token_losses
from tests.modeling.tiny import tiny_model
from tests.training.test_cut_cross_entropy import mlx_lm_model
from tests.training.test_loss import mean_loss

LENGTHS = (17, 14, 12, 9, 3)
"""Sliding windows have 6 keys: most documents are longer than two windows."""
FAMILIES = ["llama", "mistral", "gemma2", "gemma3_text", "qwen3"]


@pytest.fixture(scope="module")
def texts() -> list[list[int]]:
    random = np.random.default_rng(1)
    return [random.integers(0, 50, length).tolist() for length in LENGTHS]


@pytest.fixture(scope="module")
def rows(texts: list[list[int]]) -> Rows:
    packed = pack(map(Document.whole, texts), length=31)
    assert [sorted(np.bincount(row)[1:].tolist()) for row in packed.document] == [[14, 17], [3, 9, 12]]
    return packed


def packed_logits(model: nn.Module, rows: Rows) -> mx.array:
    """(B, L, V)."""
    document = mx.array(rows.document)
    return model(mx.array(rows.tokens)[:, :-1], document_caches(document[:, :-1], len(model.layers)))


def packed_loss(model: nn.Module, rows: Rows) -> mx.array:
    return mean_loss(packed_logits(model, rows), mx.array(rows.tokens)[:, 1:], mx.array(rows.target_weights))


def alone_loss(model: nn.Module, texts: Sequence[Sequence[int]]) -> mx.array:
    """Mean loss over all tokens of all documents, each in its own forward pass."""
    losses = [token_losses(model(mx.array([text[:-1]])), mx.array([text[1:]])).reshape(-1) for text in map(list, texts)]
    return mx.concatenate(losses).mean()


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_documents_have_the_logits_they_have_alone(family: str, rows: Rows) -> None:
    model = tiny_model(family)
    logits = packed_logits(model, rows)
    for row, (tokens, numbers) in enumerate(zip(rows.tokens, rows.document, strict=True)):
        for number in range(1, int(numbers.max()) + 1):
            places = np.flatnonzero(numbers == number)
            places = places[places < logits.shape[1]]  # the last token of a row is only a target
            alone = model(mx.array(tokens[places])[None])[0]
            together = logits[row][mx.array(places)]
            assert mx.abs(together - alone).max().item() < 1e-5 * max(1.0, mx.abs(alone).max().item())


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_documents_have_the_loss_and_gradients_they_have_alone(
    family: str, rows: Rows, texts: list[list[int]]
) -> None:
    model = tiny_model(family)
    packed, gradients = nn.value_and_grad(model, packed_loss)(model, rows)
    alone, expected = nn.value_and_grad(model, alone_loss)(model, texts)

    assert packed.item() == pytest.approx(alone.item(), abs=1e-5)
    by_name: dict[str, Any] = dict(tree_flatten(expected))
    for name, gradient in tree_flatten(gradients):
        scale = max(1.0, mx.abs(by_name[name]).max().item())
        assert mx.abs(gradient - by_name[name]).max().item() < 1e-5 * scale, name


MLX_LM_CONFIGS = {
    "llama": {},
    "gemma3_text": {"sliding_window": 6, "sliding_window_pattern": 2, "query_pre_attn_scalar": 16},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "phi3": {},
    "qwen3": {},
    "olmo2": {},
    "cohere2": {"sliding_window": 6, "sliding_window_pattern": 2, "logit_scale": 1.0, "layer_norm_bias": False},
}


@pytest.mark.parametrize("name", MLX_LM_CONFIGS)
def test_packed_documents_have_the_logits_they_have_alone_in_mlx_lm_models(name: str, rows: Rows) -> None:
    model = mlx_lm_model(name, num_hidden_layers=2, **MLX_LM_CONFIGS[name])
    refuse_packing(model)
    logits = packed_logits(model, rows)
    places = np.flatnonzero(rows.document[0] == 2)
    places = places[places < logits.shape[1]]
    alone = model(mx.array(rows.tokens[0][places])[None])[0]
    assert mx.abs(logits[0][mx.array(places)] - alone).max().item() < 1e-5 * max(1.0, mx.abs(alone).max().item())


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        (
            "gpt2",
            {"n_ctx": 64, "n_positions": 64, "n_embd": 32, "n_head": 2, "n_layer": 1},
            "learned positions",
        ),
        (
            "mamba",
            {"state_size": 8, "conv_kernel": 4, "use_bias": False, "use_conv_bias": True, "time_step_rank": 4},
            "more than keys and",
        ),
    ],
)
def test_packing_is_refused_for_models_that_mix_documents(name: str, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match="would not be independent in this model") as raised:
        refuse_packing(mlx_lm_model(name, **changes))
    assert raised.value.fix == "--batching bucket"
    assert reason in raised.value.details[0]


def test_a_position_attends_to_its_own_document_within_the_sliding_window() -> None:
    [cache, *others] = document_caches(mx.array([[1, 1, 2, 2, 2, 0]]), layers=3)
    assert (cache.offset, len(others)) == (0, 2)
    full: Any = cache.make_mask(6).astype(mx.int32)[0, 0].tolist()
    assert full == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]
    window: Any = cache.make_mask(6, window_size=2).astype(mx.int32)[0, 0, 4].tolist()
    assert window == [0, 0, 0, 1, 1, 0]


def test_each_position_knows_the_size_of_its_document() -> None:
    sizes = document_sizes(mx.array([[1, 1, 2, 2, 2, 0], [1, 2, 3, 4, 5, 6]], dtype=mx.uint16))
    assert sizes.tolist() == [[2, 2, 3, 3, 3, 1], [1, 1, 1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("lengths", "bound"),
    [([1000], 1024), ([513, 400], 1024), ([512, 300], 512), ([300, 256, 9], 512), ([200, 100], 256), ([5, 9], 128)],
)
def test_the_longest_document_is_bounded_by_halves_of_the_row(lengths: list[int], bound: int) -> None:
    """The other row is empty: padding is no document."""
    document = np.zeros((2, 1024), np.uint16)
    document[0, : sum(lengths)] = np.repeat(np.arange(1, len(lengths) + 1), lengths)
    assert longest_document(document) == bound


def test_padding_attends_to_itself_so_that_softmax_is_finite(rows: Rows) -> None:
    assert (rows.document == 0).any()
    assert mx.isfinite(packed_logits(tiny_model("gemma2"), rows)).all().item()
