"""Token ids that are never sampled.

A model gives some probability to every row of its head, those included that mean nothing: padding, tokens that the
vocabulary reserves, and tokens that were never trained. Files rarely mark these as special. A base model that was
finetuned for chat without its end of turn ends its turns in `<unused2874>`.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import mlx.nn as nn

from mlx_suite.checkpoints.untrained_tokens import UntrainedToken, tokens_like_reserved, untrained_tokens
from mlx_suite.engine.program import Sampling
from mlx_suite.modeling.head import embedding_matrix, vocabulary_size
from mlx_suite.text import Tokenizer


def never_sampled(model: Any, tokenizer: Tokenizer) -> frozenset[int]:
    """Ids that no turn contains: special tokens and those of `untrained`."""
    return tokenizer.special_ids | untrained(model, tokenizer)


def untrained(model: Any, tokenizer: Tokenizer) -> frozenset[int]:
    """Ids that no text contains: rows without a token, reserved tokens, and tokens whose rows are like theirs.

    Stop tokens and the tokens of single bytes are none of them: any text may need the latter.
    """
    nameless = tokenizer.nameless_ids(embedding_rows(model, tokenizer))
    matrix = embedding_matrix(model) if isinstance(model, nn.Module) else None
    if matrix is None:
        return nameless
    alike = tokens_like_reserved(matrix, nameless)
    return nameless | frozenset(index for index in alike if not _is_needed(tokenizer, index))


def untrained_token(model: Any, tokenizer: Tokenizer, token: int) -> UntrainedToken | None:
    """The sign that a token, such as the end of a turn, was never trained; None without one."""
    matrix = embedding_matrix(model) if isinstance(model, nn.Module) else None
    if matrix is None:
        return None
    nameless = tokenizer.nameless_ids(matrix.weight.shape[0])
    return next(iter(untrained_tokens(matrix, nameless, [token])), None)


def banning(sampling: Sampling, ids: Collection[int], stop: Iterable[int]) -> Sampling:
    """`sampling` that also bans `ids`, apart from stop tokens and from tokens that a positive `logit_bias` asks for."""
    allowed = frozenset({*stop, *(index for index, value in sampling.logit_bias if value > 0)})
    return replace(sampling, banned=_bans(sampling.banned, frozenset(ids), allowed))


@lru_cache(maxsize=64)
def _bans(always: tuple[int, ...], ids: frozenset[int], allowed: frozenset[int]) -> tuple[int, ...]:
    # Rows with the same bans share one tuple, which a decode step compares by identity.
    return tuple(sorted({*always, *(ids - allowed)}))


def embedding_rows(model: Any, tokenizer: Tokenizer) -> int:
    """Rows of the model's embedding; without a model, the tokenizer's number of ids."""
    return tokenizer.vocab_size if model is None else vocabulary_size(model)


def _is_needed(tokenizer: Tokenizer, index: int) -> bool:
    if index in tokenizer.stop_ids:
        return True
    if tokenizer.backend.token_bytes is None:
        return len(tokenizer.decode([index])) <= 1
    return len(tokenizer.bytes_of(index)) == 1
