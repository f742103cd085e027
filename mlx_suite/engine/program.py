"""What a row of generation consists of: text given, text sampled, labels chosen, in one token sequence.

A program is a generator function. It yields segments and is sent what became of them, so it may look at an
instruction before it asks for the answer; what it returns is the row's result.

    def ask(header, reply_header, stop):
        yield Given(header)
        question = yield Sample(limit=64, stop=stop)
        if question.reason != "stop":
            return None
        yield Given(reply_header)
        answer = yield Sample(limit=128, stop=stop, sampling=Sampling(temperature=0.0))
        return question.tokens, answer.tokens
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Reason = Literal["stop", "limit", "context"]
"""Why sampled text ended: a stop token, the segment's limit, or the end of the model's context."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is drawn. The temperature is applied first, then top-p and min-p, as vLLM does."""

    temperature: float = 1.0
    """0 takes the most probable token."""
    top_p: float = 1.0
    """Keep the most probable tokens whose probabilities reach this sum."""
    min_p: float = 0.0
    """Keep tokens at least this probable, as a share of the most probable one's."""
    banned: tuple[int, ...] = ()
    """Tokens that are never written."""
    banned_first: tuple[int, ...] = ()
    """Tokens that are not written as the first of a segment."""


@dataclass(frozen=True)
class Given:
    """Tokens that are fed, not sampled."""

    tokens: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Text that the model writes, up to a stop token or `limit` tokens. Its result is `Written`."""

    limit: int
    stop: frozenset[int]
    sampling: Sampling = field(default_factory=Sampling)
    salt: int = 0
    """Another number gives another text at the same place: for trying again."""


@dataclass(frozen=True)
class Choose:
    """The label (a token sequence) with the highest log-probability. Its result is `Chosen`."""

    labels: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Query:
    """Something asked aside."""

    tokens: tuple[int, ...]
    """What is fed behind the sequence so far. None asks the sequence itself."""
    labels: tuple[tuple[int, ...], ...] = ()
    """What may follow; none where only the state is wanted."""
    state: bool = False
    """Whether the hidden state behind the last token is wanted, of models whose parts are known (`modeling.head`)."""


@dataclass(frozen=True)
class Queries:
    """Questions to the sequence so far, side by side; they leave it as it was.

    Its result is a `Reply` for each; None where the context has no room for the longest.
    """

    queries: tuple[Query, ...]


@dataclass(frozen=True)
class Rewind:
    """Forget all but the first `length` tokens of the sequence. Its result is None."""

    length: int


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a `Sample` became."""

    tokens: tuple[int, ...]
    """Without the stop token."""
    reason: Reason
    stop_token: int | None = None


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What a `Choose` became."""

    index: int
    log_probs: tuple[float, ...]
    """Of each whole label behind the sequence so far, in nats."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a `Query` became."""

    index: int | None
    """Of the most probable label; None without labels."""
    log_probs: tuple[float, ...]
    """Of each whole label, in nats."""
    state: npt.NDArray[np.float32] | None = None
    """(d,), final norm applied."""


Segment = Given | Sample | Choose | Queries | Rewind
Program = Generator[Segment, Any, Any]


@dataclass(kw_only=True)
class Request:
    """One program to run. Rows with equal programs and seeds are equal whatever runs beside them (in fp32)."""

    program: Program
    seed: int = 0
    on_token: Callable[[int], None] | None = None
    """Called with each sampled token, the stop token included, as it becomes known."""
    renew: Callable[[], Program] | None = None
    """Makes the same program anew. An engine that runs out of memory begins such a row again later."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """A program that has ended."""

    request: Request
    result: Any
    """What the program returned."""
