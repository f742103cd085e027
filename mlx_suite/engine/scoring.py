"""Questions to what a slot holds: log-probabilities of labels and hidden states, in a pass that leaves no trace.

Labels that begin alike share their rows, and only the positions that predict a label go through the head: five
questions with single-token labels cost five rows and five lines of logits.

Shapes: N rows, T tokens of the longest, M positions that are looked at, d hidden size, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from mlx_suite.engine.program import Query, Reply
from mlx_suite.engine.slots import Peek, SlotCache
from mlx_suite.engine.step import vocabulary_size
from mlx_suite.modeling.fast_math import logsumexp
from mlx_suite.modeling.finite import check_finite
from mlx_suite.modeling.head import head_function
from mlx_suite.runtime.debug import check_indices

Place = tuple[int, int]
"""Row and column of a position."""


def replies(
    model: Any, caches: Sequence[SlotCache], slot: int, position: int, last: int, queries: Sequence[Query]
) -> tuple[Reply, ...]:
    """What the model says to each query behind a slot's text.

    The slot holds `position` tokens; `last` is the one behind them, whose output predicts what comes first. Queries of
    like length share a pass; one more costs less than padding short ones to twice their length. A state on the way of
    another query costs nothing.
    """
    found: dict[int, Reply] = {}
    for numbers in _passes(queries):
        some = _replies(model, caches, slot, position, last, [queries[number] for number in numbers])
        found.update(zip(numbers, some, strict=True))
    return tuple(found[number] for number in range(len(queries)))


def _passes(queries: Sequence[Query]) -> list[list[int]]:
    """Numbers of queries that run together: those with labels by length, then those that want a state alone."""
    groups: list[list[int]] = []
    for number in sorted(range(len(queries)), key=lambda number: (not queries[number].labels, -room(queries[number]))):
        query = queries[number]
        shared = [group for group in groups if not query.labels and any(_begins(queries[i], query) for i in group)]
        if shared:
            shared[0].append(number)
        elif groups and 2 * room(query) >= room(queries[groups[-1][0]]):
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups


def _begins(query: Query, other: Query) -> bool:
    """Whether a query begins with all that is fed for another one."""
    return query.tokens[: len(other.tokens)] == other.tokens


def _replies(
    model: Any, caches: Sequence[SlotCache], slot: int, position: int, last: int, queries: Sequence[Query]
) -> tuple[Reply, ...]:
    """`replies` in one pass."""
    rows: list[tuple[int, ...]] = []
    wanted: list[list[list[tuple[Place, int]]]] = []  # per query and label: where each of its tokens is predicted
    ends: list[Place] = []
    for query in queries:
        assert all(query.labels), "a label has at least one token"
        assert query.labels or query.state, "a query wants labels or a state"
        fed = (last, *query.tokens)
        held = [number for number, row in enumerate(rows) if row[: len(fed)] == fed]
        if held and not query.labels:
            ends.append((held[0], len(query.tokens)))
            wanted.append([])
            continue
        first = len(rows)
        contexts = _contexts(query.labels)
        rows += [(*fed, *context) for context in contexts]
        ends.append((first, len(query.tokens)))
        wanted.append([_places(label, contexts, first, len(query.tokens)) for label in query.labels])
    size = vocabulary_size(model)
    check_indices((token for row in rows for token in row), size, "token")
    check_indices((token for labels in wanted for places in labels for _, token in places), size, "label token")
    hidden, head = _forward(model, caches, slot, position, rows)
    log_probs = _log_probs(hidden, head, [each for labels in wanted for places in labels for each in places])
    states = _states(hidden, head, [end for query, end in zip(queries, ends, strict=True) if query.state])
    found = []
    for query, labels in zip(queries, wanted, strict=True):
        sums = tuple(sum(next(log_probs) for _ in places) for places in labels)
        best = max(range(len(sums)), key=sums.__getitem__) if sums else None
        found.append(Reply(index=best, log_probs=sums, state=next(states) if query.state else None))
    return tuple(found)


def room(query: Query) -> int:
    """Tokens for which the context must have room."""
    return len(query.tokens) + max(map(len, query.labels), default=0)


def _contexts(labels: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """What must be fed so that every label's last token is predicted: no context is the beginning of another."""
    contexts = sorted({tuple(label[:-1]) for label in labels} or {()})
    following = [*contexts[1:], ()]
    return [each for each, after in zip(contexts, following, strict=True) if after[: len(each)] != each or not after]


def _places(
    label: Sequence[int], contexts: Sequence[tuple[int, ...]], first: int, start: int
) -> list[tuple[Place, int]]:
    """Where each token of a label is predicted, and the token."""
    row = next(i for i, context in enumerate(contexts) if context[: len(label) - 1] == tuple(label[:-1]))
    return [((first + row, start + i), token) for i, token in enumerate(label)]


def _forward(
    model: Any, caches: Sequence[SlotCache], slot: int, position: int, rows: Sequence[Sequence[int]]
) -> tuple[mx.array, Any]:
    """Hidden states (N, T, d) and the head for them; of a model whose parts are not known, logits and None."""
    longest = max(map(len, rows))
    # Padding comes last, where causal attention hides it from all that counts.
    fed = mx.array([[*row] + [0] * (longest - len(row)) for row in rows])  # (N, T)
    peeks = [Peek(cache, slot, position) for cache in caches]
    head = head_function(model)
    return (model(fed, cache=peeks), None) if head is None else (model.model(fed, cache=peeks), head)


def _log_probs(hidden: mx.array, head: Any, wanted: Sequence[tuple[Place, int]]) -> Any:
    """The log-probability of each wanted token, in order. Raises UserError where one is no number."""
    if not wanted:
        return iter(())
    columns = hidden.shape[1]
    places = sorted({place for place, _ in wanted})
    number = {place: i for i, place in enumerate(places)}
    picked = hidden.reshape(-1, hidden.shape[-1])[mx.array([row * columns + column for row, column in places])]
    logits = (picked if head is None else head(picked)).astype(mx.float32)  # (M, V)
    lines = mx.array([number[place] for place, _ in wanted])
    tokens = mx.array([token for _, token in wanted])
    log_probs: Any = (logits[lines, tokens] - logsumexp(logits)[lines]).tolist()
    check_finite(log_probs, "log-probabilities")
    return iter(log_probs)


def _states(hidden: mx.array, head: Any, ends: Sequence[Place]) -> Any:
    """The hidden states at `ends`, in order."""
    if not ends:
        return iter(())
    assert head is not None, "the hidden states of this model are not known"
    columns = hidden.shape[1]
    flat = mx.array([row * columns + column for row, column in ends])
    return iter(np.array(hidden.reshape(-1, hidden.shape[-1])[flat].astype(mx.float32)))
