"""A request for generated text, the same for every protocol, and the events that answer it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from mlx_suite.engine import Sampling, TokenScore
from mlx_suite.engine.program import Constraint

EndReason = Literal["stop", "limit", "context", "loop", "time", "cancelled"]
"""Why a choice ended: stop token or stop text, `limit` tokens, context full, time limit, or cancelled."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """One or more continuations of a prompt by a served model."""

    model: str
    """Name of a served model or adapter."""
    prompt: tuple[int, ...]
    """Token ids of the whole prompt, BOS included."""
    limit: int | None = None
    """Maximum tokens of a choice; None for as many as the context has room for."""
    sampling: Sampling = field(default_factory=Sampling)
    seed: int | None = None
    """Seed of the first choice; each further one adds 1. None: random. It does not turn batching off."""
    choices: int = 1
    stop: frozenset[int] = frozenset()
    """Stop tokens."""
    stop_texts: tuple[str, ...] = ()
    """A choice ends before the first of these; they may begin and end inside tokens."""
    special: bool = False
    """Whether the text shows special tokens by name, for tool calls that are written with them."""
    alternatives: int | None = None
    """Report log-probabilities of tokens and of this many alternatives, at most 20. None: no scores."""
    constraint: Callable[[], Constraint] | None = None
    """Makes the constraint of each choice, for example to a JSON schema."""
    seconds: float | None = None
    """Time limit from the submission on. None: the server's."""


@dataclass(frozen=True, kw_only=True)
class Token:
    """A sampled or forced token."""

    id: int
    score: TokenScore | None = None
    """None if scores were not requested, and for forced tokens."""


@dataclass(frozen=True, kw_only=True)
class Delta:
    """Text that is final: no stop text and no half of a character is in it."""

    choice: int
    text: str
    """May be empty, if tokens were written whose text is not final."""
    tokens: tuple[Token, ...] = ()
    """Tokens since the last event, without the stop token."""


@dataclass(frozen=True, kw_only=True)
class Started:
    """A slot has taken the choice; what a KV cache does not hold of its prompt is prefilled next."""

    choice: int
    prompt_tokens: int
    cached_tokens: int
    """Leading tokens of the prompt that a KV cache already held."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The end of a choice."""

    choice: int
    reason: EndReason
    prompt_tokens: int
    cached_tokens: int
    tokens: int
    """Tokens of the choice, the stop token included."""
    stop_text: str | None = None
    """The stop text that was found."""
    stop_token: int | None = None
    tokens_per_second: float | None = None
    """Speed after the first token; None if there is only one."""


Event = Started | Delta | Ended
