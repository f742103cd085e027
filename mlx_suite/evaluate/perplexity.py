"""Perplexity of a model on a file, with nats per token and bits per byte."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import exp, log, sqrt
from typing import Any

import numpy as np

from mlx_suite.data.statistics import Interval, Z
from mlx_suite.engine.token_scores import Window, cut_windows, score_windows
from mlx_suite.evaluate.passages import Passage, prefix_of
from mlx_suite.text import Tokenizer

CONTEXT = 2048
"""Default cap on the context, for models that support more: longer context helps little."""


@dataclass(frozen=True, kw_only=True)
class PassageLoss:
    """Loss of one text or one window."""

    nats: float
    tokens: int
    size: int = 0
    place: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The fields of a JSON line."""
        return {"place": self.place, "tokens": self.tokens, "nats": self.nats, "bytes": self.size}


@dataclass(frozen=True, kw_only=True)
class Perplexity:
    """Perplexity of one file."""

    passages: tuple[PassageLoss, ...]
    windows: tuple[PassageLoss, ...]
    """The same tokens grouped by scoring window."""
    context: int
    stride: int
    unscored: int = 0
    """First tokens of texts, which a model without BOS cannot predict."""

    @cached_property
    def tokens(self) -> int:
        """Number of scored tokens."""
        return sum(each.tokens for each in self.passages)

    @cached_property
    def nats(self) -> float:
        """Mean loss per token over all tokens, so long texts weigh more."""
        return sum(each.nats for each in self.passages) / max(self.tokens, 1)

    @property
    def perplexity(self) -> float:
        """exp(mean nats)."""
        return exp(min(self.nats, 700.0))

    @property
    def bits_per_byte(self) -> float | None:
        """Bits per UTF-8 byte, comparable across tokenizers; None for conversations."""
        size = sum(each.size for each in self.passages)
        return sum(each.nats for each in self.passages) / log(2) / size if size else None

    @cached_property
    def error(self) -> float | None:
        """Standard error of the mean nats; None for a single window.

        Tokens of a text are correlated, so texts are the clusters (windows if there is one text): the ratio estimator
        for cluster sampling (Cochran, Sampling Techniques, section 9A).
        """
        groups = self.passages if len(self.passages) > 1 else self.windows
        if len(groups) < 2:
            return None
        spread = sum((each.nats - self.nats * each.tokens) ** 2 for each in groups)
        return sqrt(spread * len(groups) / (len(groups) - 1)) / self.tokens

    @property
    def interval(self) -> Interval | None:
        """95 % interval of the perplexity."""
        if self.error is None:
            return None
        low, high = (min(self.nats + sign * Z * self.error, 700.0) for sign in (-1, 1))
        return exp(low), exp(high)


def measure(
    model: Any,
    tokenizer: Tokenizer,
    passages: Sequence[Passage],
    *,
    context: int,
    stride: int | None = None,
    tell: Callable[[int], None] = lambda count: None,
) -> Perplexity:
    """Compute the loss of every scored token of `passages`, each once.

    Args:
        context: Window length in tokens. A token sees at least `context` − `stride` predecessors, or all there are.
        stride: Tokens scored per window after the first; half the context if None. Smaller strides give each token
            more context and take longer.
        tell: Called with the number of windows finished by each batch.
    """
    prefix = prefix_of(tokenizer)
    stride = max(1, context // 2) if stride is None else stride
    windows: list[Window] = []
    scored: list[tuple[bool, ...]] = []
    owner: list[int] = []
    for number, passage in enumerate(passages):
        if not any(passage.scored):
            continue
        first = passage.scored.index(True)
        # Tokens after the last scored one do not matter.
        end = len(passage.scored) - passage.scored[::-1].index(True)
        assert first >= 1 or prefix, passage.place
        begin = first
        for window in cut_windows(passage.tokens[:end], prefix=prefix, first=first, context=context, stride=stride):
            windows.append(window)
            scored.append(passage.scored[begin : begin + len(window.targets)])
            owner.append(number)
            begin += len(window.targets)
    scores = score_windows(model, windows, tell=tell)
    losses = [
        PassageLoss(nats=-float(score.log_probs[np.array(counts)].sum()), tokens=sum(counts))
        for score, counts in zip(scores, scored, strict=True)
    ]
    totals = {number: [0.0, 0] for number in owner}
    for number, loss in zip(owner, losses, strict=True):
        totals[number][0] += loss.nats
        totals[number][1] += loss.tokens
    return Perplexity(
        passages=tuple(
            PassageLoss(nats=nats, tokens=int(tokens), size=passages[number].size, place=passages[number].place)
            for number, (nats, tokens) in totals.items()
        ),
        windows=tuple(loss for loss in losses if loss.tokens),
        context=context,
        stride=stride,
        unscored=0 if prefix else sum(bool(passage.tokens) and not passage.scored[0] for passage in passages),
    )
