"""Queries on a fork of a slot's KV cache: log-probabilities of labels, and hidden states. The slot is unchanged.

Labels with a common prefix share a row, and only positions that predict a label token go through the head: five queries
with single-token labels cost five rows and five rows of logits.

Shapes: N rows, T tokens of the longest row, M scored positions, d hidden size, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from mlx_suite.engine.program import Query, Reply
from mlx_suite.engine.slots import SlotCache, SlotFork
from mlx_suite.modeling.fast_math import logsumexp
from mlx_suite.modeling.finite import check_finite
from mlx_suite.modeling.head import head_function, vocabulary_size
from mlx_suite.runtime.debug import check_indices

Position = tuple[int, int]
"""Row and column of a token in a batch."""
Target = tuple[Position, int]
"""A position, and the label token that its output predicts."""


def replies(
    model: Any, caches: Sequence[SlotCache], slot: int, position: int, last: int, queries: Sequence[Query]
) -> tuple[Reply, ...]:
    """The replies to queries on a slot's sequence.

    Queries of similar length share a pass: another pass costs less than padding to twice the length. A hidden state of
    a query that is a prefix of another comes from the same row.

    Args:
        position: Number of tokens in the slot's KV cache.
        last: The next token, not yet fed; its output predicts the first token of a query.
    """
    results: dict[int, Reply] = {}
    for numbers in _passes(queries):
        batch = _replies(model, caches, slot, position, last, [queries[number] for number in numbers])
        results.update(zip(numbers, batch, strict=True))
    return tuple(results[number] for number in range(len(queries)))


def _passes(queries: Sequence[Query]) -> list[list[int]]:
    """Indices of the queries in each pass: queries with labels by length, then those for a hidden state only."""
    groups: list[list[int]] = []
    for number in sorted(range(len(queries)), key=lambda i: (not queries[i].labels, -query_length(queries[i]))):
        query = queries[number]
        shared = [group for group in groups if not query.labels and any(_extends(queries[i], query) for i in group)]
        if shared:
            shared[0].append(number)
        elif groups and 2 * query_length(query) >= query_length(queries[groups[-1][0]]):
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups


def _extends(query: Query, other: Query) -> bool:
    """Whether the tokens of `query` begin with all tokens of `other`."""
    return query.tokens[: len(other.tokens)] == other.tokens


def _replies(
    model: Any, caches: Sequence[SlotCache], slot: int, position: int, last: int, queries: Sequence[Query]
) -> tuple[Reply, ...]:
    """`replies` in one pass."""
    rows: list[tuple[int, ...]] = []
    targets: list[list[list[Target]]] = []  # per query, label and token
    ends: list[Position] = []
    for query in queries:
        assert all(query.labels), "a label has at least one token"
        assert query.labels or query.state, "a query asks for labels or a state"
        fed = (last, *query.tokens)
        sharing = [number for number, row in enumerate(rows) if row[: len(fed)] == fed]
        if sharing and not query.labels:
            ends.append((sharing[0], len(query.tokens)))
            targets.append([])
            continue
        first = len(rows)
        contexts = _contexts(query.labels)
        rows += [(*fed, *context) for context in contexts]
        ends.append((first, len(query.tokens)))
        targets.append([_targets(label, contexts, first, len(query.tokens)) for label in query.labels])
    size = vocabulary_size(model)
    check_indices((token for row in rows for token in row), size, "token")
    flat = [target for labels in targets for label in labels for target in label]
    check_indices((token for _, token in flat), size, "label token")
    hidden, head = _forward(model, caches, slot, position, rows)
    log_probs = _log_probs(hidden, head, flat)
    states = _states(hidden, head, [end for query, end in zip(queries, ends, strict=True) if query.state])
    results = []
    for query, labels in zip(queries, targets, strict=True):
        sums = tuple(sum(next(log_probs) for _ in label) for label in labels)
        best = max(range(len(sums)), key=sums.__getitem__) if sums else None
        results.append(Reply(index=best, log_probs=sums, state=next(states) if query.state else None))
    return tuple(results)


def query_length(query: Query) -> int:
    """Number of tokens by which a query extends the sequence."""
    return len(query.tokens) + max(map(len, query.labels), default=0)


def _contexts(labels: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Token sequences to feed so that every label token is predicted; none is a prefix of another."""
    contexts = sorted({tuple(label[:-1]) for label in labels} or {()})
    following = [*contexts[1:], ()]
    return [each for each, after in zip(contexts, following, strict=True) if after[: len(each)] != each or not after]


def _targets(label: Sequence[int], contexts: Sequence[tuple[int, ...]], first: int, start: int) -> list[Target]:
    """The targets of a label; `contexts` are the rows starting at `first`."""
    row = next(i for i, context in enumerate(contexts) if context[: len(label) - 1] == tuple(label[:-1]))
    return [((first + row, start + i), token) for i, token in enumerate(label)]


def _forward(
    model: Any, caches: Sequence[SlotCache], slot: int, position: int, rows: Sequence[Sequence[int]]
) -> tuple[mx.array, Any]:
    """Hidden states (N, T, d) and the head, or logits (N, T, V) and None if the model's head is unknown."""
    longest = max(map(len, rows))
    # Padding comes last, where causal attention hides it from every real token.
    fed = mx.array([[*row] + [0] * (longest - len(row)) for row in rows])  # (N, T)
    forks = [SlotFork(cache, slot, position) for cache in caches]
    head = head_function(model)
    return (model(fed, cache=forks), None) if head is None else (model.model(fed, cache=forks), head)


def _log_probs(hidden: mx.array, head: Any, targets: Sequence[Target]) -> Any:
    """The log-probability of each target, in order. Raises UserError for NaN or inf."""
    if not targets:
        return iter(())
    columns = hidden.shape[1]
    positions = sorted({position for position, _ in targets})
    number = {position: i for i, position in enumerate(positions)}
    picked = hidden.reshape(-1, hidden.shape[-1])[mx.array([row * columns + column for row, column in positions])]
    logits = (picked if head is None else head(picked)).astype(mx.float32)  # (M, V)
    rows = mx.array([number[position] for position, _ in targets])
    tokens = mx.array([token for _, token in targets])
    log_probs: Any = (logits[rows, tokens] - logsumexp(logits)[rows]).tolist()
    check_finite(log_probs, "log-probabilities")
    return iter(log_probs)


def _states(hidden: mx.array, head: Any, ends: Sequence[Position]) -> Any:
    """The hidden states at `ends`, in order."""
    if not ends:
        return iter(())
    assert head is not None, "the hidden states of this model are unknown"
    columns = hidden.shape[1]
    flat = mx.array([row * columns + column for row, column in ends])
    return iter(np.array(hidden.reshape(-1, hidden.shape[-1])[flat].astype(mx.float32)))
