"""A row of generation as a program: forced tokens, sampled text and queries, in one token sequence.

A program is a generator. It yields segments and is sent their results, so it can inspect an instruction before it
samples the response; its return value is the row's result.

    def row(header, response_header, stop):
        yield Given(header)
        instruction = yield Sample(limit=64, stop=stop)
        if instruction.reason != "stop":
            return None
        yield Given(response_header)
        response = yield Sample(limit=128, stop=stop, sampling=Sampling(temperature=0.0))
        return instruction.tokens, response.tokens
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

LOOP_CHECK = 32
"""Tokens between two calls of a segment's `loops`."""
Reason = Literal["stop", "limit", "context", "loop"]
"""Why sampled text ended: at a stop token or by `until`, at the segment's limit, at the end of the context, or by
`loops`."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Sampling settings. Order as in vLLM: penalties, bias, temperature, then top-k, top-p and min-p."""

    temperature: float = 1.0
    """Sampling temperature; 0 is greedy."""
    top_p: float = 1.0
    """Keep the most probable tokens whose probabilities add up to at least this."""
    min_p: float = 0.0
    """Keep tokens whose probability is at least this fraction of the highest."""
    top_k: int = 0
    """Keep this many of the most probable tokens; 0 keeps all."""
    repetition_penalty: float = 1.0
    """Divisor of positive logits, and factor of negative ones, of all tokens in the sequence (arXiv 1909.05858)."""
    presence_penalty: float = 0.0
    """Subtracted from the logits of tokens already sampled in the segment."""
    frequency_penalty: float = 0.0
    """Subtracted from a token's logit for each time it was sampled in the segment."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """(id, value) pairs added to logits."""
    banned: tuple[int, ...] = ()
    """Ids that are never sampled."""
    banned_first: tuple[int, ...] = ()
    """Ids that are never sampled as the first token of a segment."""

    @property
    def penalises(self) -> bool:
        """Whether logits depend on earlier tokens."""
        return self.repetition_penalty != 1.0 or self.presence_penalty != 0.0 or self.frequency_penalty != 0.0


class Constraint(Protocol):
    """Restricts the next token, for example to a grammar. `text` is what the segment holds so far."""

    def forced(self, text: Sequence[int]) -> Sequence[int]:
        """Tokens that must follow; empty if there is a choice."""
        ...

    def allowed(self, text: Sequence[int]) -> npt.NDArray[np.bool_]:
        """(V,) which tokens may follow; at least one."""
        ...


@dataclass(frozen=True)
class Given:
    """Forced tokens: fed to the model, not sampled. The result is None."""

    tokens: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Text sampled up to a stop token or `limit` tokens. The result is a `Written`."""

    limit: int
    stop: frozenset[int]
    sampling: Sampling = field(default_factory=Sampling)
    salt: int = 0
    """Changes the random numbers of the segment, for a second attempt at the same position."""
    constraint: Constraint | None = None
    until: Callable[[int], bool] | None = None
    """Called with each token; the text ends after the first for which it returns True, for example at a stop text."""
    loops: Callable[[Sequence[int]], bool] | None = None
    """Called with the segment's tokens every `LOOP_CHECK` tokens; the text ends if it returns True (`text.loops`)."""
    alternatives: int | None = None
    """Report each token's log-probability and those of this many of the most probable tokens. None: no scores."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """A query scored on a fork of the KV cache; the sequence is unchanged."""

    tokens: tuple[int, ...]
    """Tokens appended for this query only; empty to score the sequence as it is."""
    labels: tuple[tuple[int, ...], ...] = ()
    """Continuations whose log-probabilities are compared; empty if only the hidden state is needed."""
    state: bool = False
    """Whether to return the hidden state of the last token, for models with a known head (`modeling.head`)."""


@dataclass(frozen=True)
class Queries:
    """Several queries on the sequence so far, in one batch. The result is a `Reply` for each.

    The result is None if the longest query exceeds the context.
    """

    queries: tuple[Query, ...]


@dataclass(frozen=True)
class Mark:
    """A position to return to. The result is the length of the sequence, for `Rewind`."""


@dataclass(frozen=True)
class Rewind:
    """Drop all but the first `length` tokens of the sequence; `length` is a `Mark`'s result. The result is None."""

    length: int


@dataclass(frozen=True, kw_only=True)
class Written:
    """Result of a `Sample`."""

    tokens: tuple[int, ...]
    """Sampled tokens without the stop token."""
    reason: Reason
    stop_token: int | None = None
    scores: tuple["TokenScore | None", ...] = ()
    """One for each token and the stop token, if requested; None for tokens that a constraint forced."""


@dataclass(frozen=True, kw_only=True)
class TokenScore:
    """Log-probabilities at one position in nats, by the model's own distribution: temperature and penalties aside."""

    log_prob: float
    """Of the sampled token."""
    alternatives: tuple[tuple[int, float], ...]
    """(id, log-probability) of the most probable tokens, in descending order."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """Result of a `Query`."""

    index: int | None
    """Index of the most probable label; None without labels."""
    log_probs: tuple[float, ...]
    """Log-probability of each complete label, in nats."""
    state: npt.NDArray[np.float32] | None = None
    """(d,) hidden state after the final norm."""


Segment = Given | Sample | Queries | Mark | Rewind
Program = Generator[Segment, Any, Any]


@dataclass(kw_only=True)
class Request:
    """A program to run. The result depends only on program and seed, not on other rows in the batch (in fp32)."""

    program: Program
    seed: int = 0
    on_token: Callable[[int], None] | None = None
    """Called with each sampled token, the stop token included, as soon as it is known."""
    on_start: Callable[[int], None] | None = None
    """Called with the number of leading tokens that a KV cache holds, before the rest of the start is prefilled."""
    on_score: Callable[[TokenScore | None], None] | None = None
    """Called before `on_token` with the token's scores, if the segment requests them."""
    renew: Callable[[], Program] | None = None
    """Creates the program again, so that an engine short of memory can drop the row and restart it later."""
    keep: bool = False
    """Whether the prefix cache stores the finished sequence, for a request that continues it."""
    cancelled: Event = field(default_factory=Event)
    """Set by `cancel`."""

    def cancel(self) -> None:
        """End the program before its next decode step, or before its start; from any thread."""
        self.cancelled.set()


class Cancelled(Exception):
    """The request was cancelled."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """A finished program. Like a future, it holds a result or an exception."""

    request: Request
    value: Any = None
    """The program's return value; None after an exception."""
    error: Exception | None = None
    """The exception that ended the program; `Cancelled` after `Request.cancel`."""
    reused: int = 0
    """Leading tokens that were not prefilled, because a KV cache held them."""

    @property
    def result(self) -> Any:
        """The program's return value. Raises the exception that ended it."""
        if self.error is not None:
            raise self.error
        return self.value
