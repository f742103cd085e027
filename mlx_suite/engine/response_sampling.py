"""How the tokens of a response are sampled, as a person sets it: flags, keys of a recipe, and the chat's `/set`.

Imports nothing of MLX, so that help is shown at once.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlx_suite.runtime.errors import UserError

if TYPE_CHECKING:
    from mlx_suite.engine.program import Sampling
    from mlx_suite.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class ResponseSampling:
    """Sampling of a response. `Sampling` is the engine's form, `stop` aside, which a segment's `until` obeys."""

    temperature: float = 0.0
    """Sampling temperature: 0 is greedy, 1 samples from the model's distribution."""
    top_p: float = 1.0
    """Nucleus sampling: keep the most probable tokens up to this total probability."""
    min_p: float = 0.0
    """Keep tokens with at least this probability relative to the most probable one."""
    top_k: int = 0
    """Keep the K most probable tokens; 0 keeps all."""
    repetition_penalty: float = 1.0
    """Divide positive logits of all tokens so far by this, multiply negative ones; 1 is off."""
    presence_penalty: float = 0.0
    """Subtract this from the logits of tokens in the response."""
    frequency_penalty: float = 0.0
    """Subtract this from a token's logit for each time it is in the response."""
    stop: tuple[str, ...] = ()
    """End the response before this text. Repeatable."""
    logit_bias: tuple[str, ...] = ()
    """Add VALUE to a token's logit, written ID=VALUE; -100 bans it. Repeatable."""

    def problems(self) -> list[tuple[str, str]]:
        """Every invalid field, with its value and what is expected."""
        rules = [
            ("temperature", 0 <= self.temperature < math.inf, "at least 0"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("min_p", 0 <= self.min_p <= 1, "between 0 and 1"),
            ("top_k", self.top_k >= 0, "at least 0"),
            ("repetition_penalty", 0 < self.repetition_penalty < math.inf, "above 0"),
            ("presence_penalty", math.isfinite(self.presence_penalty), "a number"),
            ("frequency_penalty", math.isfinite(self.frequency_penalty), "a number"),
        ]
        found = [(name, f"is {getattr(self, name)}: expected {wanted}") for name, valid, wanted in rules if not valid]
        found += [("stop", "is empty: expected a text")] * ("" in self.stop)
        found += [("logit_bias", f"is {pair!r}: expected ID=VALUE") for pair in self.logit_bias if not _pair(pair)]
        return found

    def sampling(self, tokenizer: "Tokenizer") -> "Sampling":
        """The engine's form. Raises UserError for a bias of a token that the vocabulary lacks."""
        from mlx_suite.engine.program import Sampling

        bias = [pair for text in self.logit_bias if (pair := _pair(text))]
        outside = [index for index, _ in bias if index >= tokenizer.vocab_size]
        if outside:
            raise UserError(
                f"logit_bias has the token id {outside[0]}, but the vocabulary ends at {tokenizer.vocab_size - 1}",
                where="logit_bias",
                fix="give an id of this model's tokenizer",
            )
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            min_p=self.min_p,
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
