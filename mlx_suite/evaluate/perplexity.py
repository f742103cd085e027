"""How well a model predicts a file: nats per token, perplexity, bits per byte."""

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
"""Tokens that are fed at most, where the model could read more: what comes before that helps little."""


@dataclass(frozen=True, kw_only=True)
class PassageLoss:
    """How one text, or one window of it, was predicted."""

    nats: float
    tokens: int
    size: int = 0
    place: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For a line of JSON."""
        return {"place": self.place, "tokens": self.tokens, "nats": self.nats, "bytes": self.size}


@dataclass(frozen=True, kw_only=True)
class Perplexity:
    """The figures of one file."""

    passages: tuple[PassageLoss, ...]
    windows: tuple[PassageLoss, ...]
    """The same tokens by the windows that they were scored in."""
    context: int
    stride: int
    unscored: int = 0
    """First tokens of texts for a model without BOS: nothing predicts them."""

    @cached_property
    def tokens(self) -> int:
        """That were scored."""
        return sum(each.tokens for each in self.passages)

    @cached_property
    def nats(self) -> float:
        """Mean per token: Σ −log p over all tokens by their number, so long texts count more than short ones."""
        return sum(each.nats for each in self.passages) / max(self.tokens, 1)

    @property
    def perplexity(self) -> float:
        """e to the mean nats: how many tokens a model would hesitate between that guesses evenly."""
        return exp(min(self.nats, 700.0))

    @property
    def bits_per_byte(self) -> float | None:
        """Comparable between tokenizers. None where the scored tokens are no text of their own."""
        size = sum(each.size for each in self.passages)
        return sum(each.nats for each in self.passages) / log(2) / size if size else None

    @cached_property
    def error(self) -> float | None:
        """Standard error of the mean nats; None for a single stretch of text.

        Tokens of one text go together, so texts are what is drawn, of a single text its windows: the ratio estimator
        for clusters (Cochran, Sampling Techniques, section 9A).
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
    """Predict every scored token of `passages` once.

    Args:
        context: Tokens fed at a time. A token has at least `context` − `stride` before it, or all there are.
        stride: Tokens that a window after a text's first one scores; half the context if None. Fewer give each token
            more context, and take longer.
        tell: Called with the number of windows that a batch has finished.
    """
    prefix = prefix_of(tokenizer)
    stride = max(1, context // 2) if stride is None else stride
    windows: list[Window] = []
    wanted: list[tuple[bool, ...]] = []
    owner: list[int] = []
    for number, passage in enumerate(passages):
        if not any(passage.scored):
            continue
        first = passage.scored.index(True)
        # What comes behind the last scored token changes nothing.
        end = len(passage.scored) - passage.scored[::-1].index(True)
        assert first >= 1 or prefix, passage.place
        begin = first
        for window in cut_windows(passage.tokens[:end], prefix=prefix, first=first, context=context, stride=stride):
            windows.append(window)
            wanted.append(passage.scored[begin : begin + len(window.targets)])
            owner.append(number)
            begin += len(window.targets)
    scores = score_windows(model, windows, tell=tell)
    losses = [
        PassageLoss(nats=-float(score.log_probs[np.array(counts)].sum()), tokens=sum(counts))
        for score, counts in zip(scores, wanted, strict=True)
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
