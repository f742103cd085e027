"""Sampling flags beyond length, temperature, top-p and min-p: top-k, penalties, stop texts and logit bias."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from mlx_suite.runtime.errors import UserError

if TYPE_CHECKING:
    from mlx_suite.engine import Sampling
    from mlx_suite.text import Tokenizer

TopK = Annotated[int, typer.Option(metavar="K", help="Keep the K most probable tokens; 0 keeps all.")]
RepetitionPenalty = Annotated[
    float, typer.Option(help="Divide positive logits of all tokens so far by this, multiply negative ones; 1 is off.")
]
PresencePenalty = Annotated[float, typer.Option(help="Subtract this from the logits of tokens in the response.")]
FrequencyPenalty = Annotated[
    float, typer.Option(help="Subtract this from a token's logit for each time it is in the response.")
]
StopTexts = Annotated[
    list[str], typer.Option("--stop", metavar="TEXT", help="End the response before this text. Repeatable.")
]
LogitBias = Annotated[
    list[str],
    typer.Option(
        "--logit-bias",
        metavar="ID=VALUE",
        hidden=True,
        rich_help_panel="Sampling",
        help="Add VALUE to a token's logit; -100 bans it. Repeatable.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class Penalties:
    """Values of the flags, as typed."""

    top_k: int = 0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    stop: Sequence[str] = ()
    logit_bias: Sequence[str] = ()

    def problems(self) -> list[str]:
        """One line for each invalid flag."""
        rules = [
            ("top-k", self.top_k, self.top_k >= 0, "at least 0"),
            ("repetition-penalty", self.repetition_penalty, 0 < self.repetition_penalty < math.inf, "above 0"),
            ("presence-penalty", self.presence_penalty, math.isfinite(self.presence_penalty), "a number"),
            ("frequency-penalty", self.frequency_penalty, math.isfinite(self.frequency_penalty), "a number"),
        ]
        found = [f"--{name} is {value}: expected {wanted}" for name, value, valid, wanted in rules if not valid]
        found += ["--stop is empty: expected a text"] * ("" in self.stop)
        return found + [f"--logit-bias is {pair!r}: expected ID=VALUE" for pair in self.logit_bias if not _pair(pair)]

    def applied_to(self, sampling: "Sampling", tokenizer: "Tokenizer") -> "Sampling":
        """The sampling with these settings. Raises UserError for a bias of a token that the vocabulary lacks."""
        from dataclasses import replace

        bias = [pair for text in self.logit_bias if (pair := _pair(text))]
        outside = [index for index, _ in bias if index >= tokenizer.vocab_size]
        if outside:
            raise UserError(
                f"--logit-bias has the token id {outside[0]}, but the vocabulary ends at {tokenizer.vocab_size - 1}",
                where="--logit-bias",
                fix="give an id of this model's tokenizer",
            )
        return replace(
            sampling,
            top_k=self.top_k,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=tuple(bias),
        )


def _pair(text: str) -> tuple[int, float] | None:
    """Token id and value of ID=VALUE; None if it is none."""
    index, equals, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        return None
    return (int(index), number) if equals and index.isdecimal() and math.isfinite(number) else None
