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

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Reason = Literal["stop", "limit", "context"]
"""Why sampled text ended: at a stop token, at the segment's limit, or at the end of the model's context."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Sampling settings: temperature first, then top-p and min-p, as in vLLM."""

    temperature: float = 1.0
    """Sampling temperature; 0 is greedy."""
    top_p: float = 1.0
    """Keep the most probable tokens whose probabilities add up to at least this."""
    min_p: float = 0.0
    """Keep tokens whose probability is at least this fraction of the highest."""
    banned: tuple[int, ...] = ()
    """Ids that are never sampled."""
    banned_first: tuple[int, ...] = ()
    """Ids that are never sampled as the first token of a segment."""


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
    renew: Callable[[], Program] | None = None
    """Creates the program again, so that an engine short of memory can drop the row and restart it later."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """A finished program."""

    request: Request
    result: Any
    """The program's return value."""
