"""What a change of a model's weights loses on a text: perplexity before and after, and a verdict in plain words.

The limits of the verdicts are ours. Gemma 3 270M at 8 bits (18.64 to 18.74, 0.5 %) has lost nothing, at 4 bits (36.8)
much. Text that the model wrote itself is easy for it, so there the share of tokens that it would still choose is the
more sensitive figure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

import numpy as np

from mlx_suite.engine.token_scores import TokenScores

NOTHING, LITTLE, MUCH = "nothing lost", "a small loss", "a large loss"
LOSS = "a loss"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Largest rise of the perplexity and smallest share of equal choices of a verdict."""

    rise: float
    agreement: float


VERDICTS = {
    NOTHING: Limits(rise=0.01, agreement=0.95),
    LITTLE: Limits(rise=0.06, agreement=0.90),
    LOSS: Limits(rise=0.25, agreement=0.75),
}
"""The mildest verdict with both limits kept is given; beyond all of them it is `MUCH`."""


@dataclass(frozen=True, kw_only=True)
class TextLoss:
    """Perplexity of one text by a model before and after."""

    tokens: int
    before: float
    after: float
    agreement: float
    """Share of tokens for which the most probable token is the same."""

    @property
    def rise(self) -> float:
        """Relative rise of the perplexity; negative for a fall."""
        return self.after / self.before - 1

    @property
    def verdict(self) -> str:
        """What was lost, in plain words."""
        for words, limits in VERDICTS.items():
            if self.rise <= limits.rise and self.agreement >= limits.agreement:
                return words
        return MUCH


def text_loss(before: Sequence[TokenScores], after: Sequence[TokenScores]) -> TextLoss:
    """Compare the scores of the same windows by two models."""
    choices = [np.concatenate([each.choices for each in side]) for side in (before, after)]
    tokens = len(choices[0])
    nats = [-sum(each.total for each in side) / tokens for side in (before, after)]
    return TextLoss(
        tokens=tokens,
        before=exp(min(nats[0], 700.0)),
        after=exp(min(nats[1], 700.0)),
        agreement=float((choices[0] == choices[1]).mean()),
    )
