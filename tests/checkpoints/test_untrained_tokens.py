"""Untrained tokens are told by their embedding rows: like reserved ones, identical, zero, or the mean."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from mlx_suite.checkpoints.untrained_tokens import tokens_like_reserved, untrained_tokens
from mlx_suite.modeling.head import Matrix

ROWS, WIDTH = 600, 32
RESERVED = tuple(range(580, 600))


def rows(noise: float = 0.05) -> np.ndarray:
    """Random rows; the last twenty share a direction."""
    draw = np.random.default_rng(0)
    table = draw.normal(0.3, 1.0, (ROWS, WIDTH)).astype(np.float32)
    direction = draw.normal(0.0, 1.0, WIDTH)
    table[list(RESERVED)] = direction + draw.normal(0.0, noise, (len(RESERVED), WIDTH))
    return table


def matrix(table: np.ndarray, bits: int = 0) -> Matrix:
    if not bits:
        return Matrix(weight=mx.array(table))
    layer = nn.QuantizedEmbedding.from_embedding(embedding(table), group_size=32, bits=bits)
    return Matrix(
        weight=layer.weight,
        packing={"scales": layer.scales, "biases": layer.biases},
        how={"group_size": 32, "bits": bits, "mode": "affine"},
    )


def embedding(table: np.ndarray) -> nn.Embedding:
    layer = nn.Embedding(*table.shape)
    layer.weight = mx.array(table)
    return layer


@pytest.mark.parametrize("bits", [0, 8])
def test_a_token_like_the_reserved_ones_is_found_with_its_similarity(bits: int) -> None:
    table = rows()
    table[7] = table[590] + 0.1
    [found] = untrained_tokens(matrix(table, bits), RESERVED, [3, 7, 11])
    assert (found.id, found.sign) == (7, "reserved")
    assert 0.97 < found.figure < 1.0
    assert found.evidence == f"cosine similarity {found.figure:.2f} to the reserved tokens"


@pytest.mark.parametrize(("moved", "is_trained_a_little"), [(0.0, False), (0.3, True)])
def test_a_row_that_training_moved_is_told_from_the_reserved_ones(moved: float, is_trained_a_little: bool) -> None:
    table = rows()
    away = np.random.default_rng(2).normal(0.0, 1.0, WIDTH)
    table[7] = table[590] + moved * away
    [found] = untrained_tokens(matrix(table), RESERVED, [7])
    assert (found.sign, found.is_trained_a_little) == ("reserved", is_trained_a_little)


def test_a_minority_of_reserved_tokens_that_were_trained_changes_nothing() -> None:
    """In Gemma 3 a tenth of the `<unusedN>` has another direction than the others."""
    table = rows()
    table[7] = table[590]
    table[list(RESERVED[:6])] = np.random.default_rng(1).normal(0.3, 1.0, (6, WIDTH))
    assert [token.id for token in untrained_tokens(matrix(table), RESERVED, [3, 7])] == [7]


def test_reserved_tokens_without_a_direction_of_their_own_say_nothing() -> None:
    table = np.random.default_rng(0).normal(0.3, 1.0, (ROWS, WIDTH)).astype(np.float32)
    assert untrained_tokens(matrix(table), RESERVED, range(50)) == []
    same = table + 20.0  # every row has nearly the same direction
    assert untrained_tokens(matrix(same), RESERVED, range(50)) == []
    assert tokens_like_reserved(matrix(same), RESERVED) == frozenset()


def test_other_signs_need_no_reserved_token() -> None:
    table = rows()
    table[5] = 0.01 * table[5]
    table[6] = table[300]
    table[8] = table[10:570].mean(axis=0) + 0.02
    found = {token.id: token.sign for token in untrained_tokens(matrix(table), (), [4, 5, 6, 8, 9])}
    assert found == {5: "zero", 6: "identical", 8: "mean"}


def test_two_markers_with_one_row_are_both_found() -> None:
    table = rows()
    table[5] = table[6]
    assert [token.id for token in untrained_tokens(matrix(table), (), [5, 6])] == [5, 6]


def test_only_a_token_that_is_surely_untrained_is_found_without_a_hint() -> None:
    table = rows(noise=0.01)
    table[7] = table[590]
    table[8] = table[590] + np.random.default_rng(1).normal(0.0, 0.4, WIDTH)
    assert [token.id for token in untrained_tokens(matrix(table), RESERVED, [7, 8])] == [7, 8]
    assert tokens_like_reserved(matrix(table), RESERVED) == {7}
