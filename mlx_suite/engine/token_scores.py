"""Log-probabilities of given tokens, in batches, with bounded memory for logits.

Only positions that predict a scored token go through the head, in blocks with a bounded number of logits: with Gemma's
vocabulary of 256,000, the logits of a batch would take 8 GB.

Shapes: B windows, L positions, M scored tokens, d hidden size, V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from mlx_suite.modeling.fast_math import logsumexp
from mlx_suite.modeling.finite import check_finite
from mlx_suite.modeling.head import head_function, vocabulary_size
from mlx_suite.runtime.debug import check_indices

BATCH = 8192
"""Positions per forward pass."""
LOGITS = 1 << 26
"""Logits per block: 256 MiB in fp32."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """Tokens fed in one forward pass, the last of which predict scored tokens."""

    fed: tuple[int, ...]
    """Input tokens."""
    targets: tuple[int, ...]
    """Tokens predicted by the last positions of `fed`, at most as many as are fed."""


@dataclass(frozen=True, kw_only=True)
class TokenScores:
    """The scored tokens of one window."""

    log_probs: npt.NDArray[np.float64]
    """(M,) log-probabilities, in nats."""
    greedy: npt.NDArray[np.bool_]
    """(M,) whether each is the most probable token."""
    choices: npt.NDArray[np.int64]
    """(M,) the most probable token of each position."""

    @property
    def total(self) -> float:
        return float(self.log_probs.sum())


def cut_windows(
    tokens: Sequence[int], *, prefix: Sequence[int], first: int, context: int, stride: int
) -> Iterator[Window]:
    """Sliding windows that score each token starting at index `first` exactly once.

    Every window begins with `prefix`: models trained on texts that start with BOS expect it. The first and the last
    window fill the context; each later one scores `stride` more tokens, preceded by as many as fit.

    Args:
        tokens: The text without the prefix.
        prefix: BOS or empty; without BOS the first token of the text cannot be scored.
        context: Maximum tokens per window.
    """
    room = context - len(prefix) + 1  # the last token of a window is not fed
    assert first >= 1 or prefix, "nothing predicts the first token"
    assert 1 <= stride <= room - (not prefix), (stride, room)
    begin, end = first, min(len(tokens), max(room, first + stride))
    while begin < len(tokens):
        start = max(0, end - room)
        yield Window(fed=(*prefix, *tokens[start : end - 1]), targets=tuple(tokens[begin:end]))
        begin, end = end, min(len(tokens), end + stride)


def score_windows(
    model: Any,
    windows: Sequence[Window],
    *,
    batch: int = BATCH,
    logits: int = LOGITS,
    tell: Callable[[int], None] = lambda count: None,
) -> list[TokenScores]:
    """Scores of each window, in order. Windows of similar length share a batch, padded at the end.

    Args:
        batch: Positions per forward pass; a longer window runs alone.
        logits: Logits per block.
        tell: Called after each batch with its number of windows.

    Raises UserError if the model returns NaN or inf.
    """
    results: dict[int, TokenScores] = {}
    for numbers in _batches(windows, batch):
        scored = _score_batch(model, [windows[number] for number in numbers], logits)
        results.update(zip(numbers, scored, strict=True))
        tell(len(numbers))
    return [results[number] for number in range(len(windows))]


def _batches(windows: Sequence[Window], batch: int) -> Iterator[list[int]]:
    """Indices of the windows in each batch, longest first, so that running out of memory happens early."""
    waiting: list[int] = []
    for number in sorted(range(len(windows)), key=lambda i: (-len(windows[i].fed), i)):
        if waiting and (len(waiting) + 1) * len(windows[waiting[0]].fed) > batch:
            yield waiting
            waiting = []
        waiting.append(number)
    if waiting:
        yield waiting


def _score_batch(model: Any, windows: Sequence[Window], most: int) -> list[TokenScores]:
    longest = max(len(window.fed) for window in windows)
    fed = np.zeros((len(windows), longest), np.int32)
    rows = []
    for row, window in enumerate(windows):
        fed[row, : len(window.fed)] = window.fed
        last = row * longest + len(window.fed)
        rows.append(np.arange(last - len(window.targets), last))
    index = np.concatenate(rows)
    targets = np.concatenate([np.array(window.targets, np.int32) for window in windows])
    log_probs, choices = _log_probs(model, fed, index, targets, most)
    cuts = np.cumsum([len(window.targets) for window in windows])[:-1]
    return [
        TokenScores(log_probs=some, greedy=chosen == wanted, choices=chosen)
        for some, chosen, wanted in zip(
            np.split(log_probs, cuts), np.split(choices, cuts), np.split(targets, cuts), strict=True
        )
    ]


def _log_probs(
    model: Any, fed: npt.NDArray[np.int32], index: npt.NDArray[np.int64], targets: npt.NDArray[np.int32], most: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Log-probabilities of `targets` (M,), and the most probable tokens, at flat positions `index` of `fed` (B, L)."""
    head = head_function(model)
    body = (model if head is None else model.model)(mx.array(fed))  # (B, L, V) or (B, L, d)
    states = body.reshape(-1, body.shape[-1])
    size = vocabulary_size(model)
    check_indices(fed, size, "token")
    check_indices(targets, size, "target")
    check_indices(index, len(states), "position")
    step = max(1, most // size)
    log_probs, choices = [], []
    for start in range(0, len(index), step):
        picked = states[mx.array(index[start : start + step])]
        logits = (picked if head is None else head(picked)).astype(mx.float32)
        wanted = mx.array(targets[start : start + step])
        log_prob = mx.take_along_axis(logits, wanted[:, None], axis=-1).squeeze(-1) - logsumexp(logits)
        parts = (log_prob, mx.argmax(logits, axis=-1))
        mx.eval(parts)
        log_probs.append(np.array(parts[0], dtype=np.float64))
        check_finite(log_probs[-1], "log-probabilities")
        choices.append(np.array(parts[1], dtype=np.int64))
    return np.concatenate(log_probs), np.concatenate(choices)
