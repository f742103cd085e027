"""State of a program in flight: its token sequence, and how much of it has been fed to the model."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mlx_suite.engine.program import (
    LOOP_CHECK,
    Cancelled,
    Done,
    Given,
    Mark,
    Queries,
    Reason,
    Reply,
    Request,
    Rewind,
    Sample,
    TokenScore,
    Written,
)
from mlx_suite.engine.scoring import query_length

RIDE = 16
"""Forced text of up to this many tokens is fed one token per decode step; longer text is prefilled in chunks."""
RIDE_ALONE = 2
"""The same for tokens that a constraint forces while no other program shares the decode steps."""


class SequenceState:
    """Steps a program through its segments. Between calls the program waits for the model or has ended."""

    def __init__(self, request: Request, context: int, window: int | None = None, order: int = 0) -> None:
        self.request, self.context, self.window, self.order = request, context, window, order
        self.sequence: list[int] = []
        """Every token so far, forced and sampled, stop tokens included."""
        self.entered = False
        """Whether its slot holds the KV cache of the first `fed` tokens."""
        self.reused = 0
        """Leading tokens taken over from another sequence's KV cache."""
        self.is_new_prefix = False
        """Whether the prefix cache stores the forced start once it is prefilled."""
        self.filling = True
        """Whether the pending tokens but the last are prefilled before the next decode step or query."""
        self.is_alone = False
        """Whether no other program is running."""
        self.fed = 0
        """Number of tokens fed to the model, including a sampled token that is fed before it has been read."""
        self.active: Sample | Queries | None = None
        self.segment = 0
        """Number of the active segment, to detect a token that was sampled for a previous one."""
        self.start = 0
        """Index in the sequence at which the active segment begins."""
        self.allowed: npt.NDArray[np.bool_] | None = None
        """(V,) tokens that the constraint allows next."""
        self.scores: list[TokenScore | None] = []
        """One for each token of the active segment."""
        self.value: Any = None
        self.error: Exception | None = None
        if request.cancelled.is_set():
            self.cancel()
        else:
            self.advance(None)
            self.filling = True

    @property
    def ended(self) -> bool:
        return self.active is None

    @property
    def constrained(self) -> bool:
        """Whether the next token depends on all tokens before it, so that none may be in flight."""
        return self.decodes and isinstance(self.active, Sample) and self.active.constraint is not None

    @property
    def is_streamed(self) -> bool:
        """Whether each token of the active segment is reported as soon as it is known."""
        sample = self.active
        return isinstance(sample, Sample) and (self.request.on_token is not None or sample.until is not None)

    @property
    def needs_prefill(self) -> bool:
        """Whether pending tokens are to be prefilled, or a query run."""
        return not self.ended and self.filling

    @property
    def decodes(self) -> bool:
        """Whether the program takes part in the next decode step."""
        return not self.ended and not self.filling

    @property
    def pending(self) -> list[int]:
        """Known tokens that have not been fed yet."""
        return self.sequence[self.fed :]

    def advance(self, outcome: Written | tuple[Reply, ...] | None) -> None:
        """Send the program the result of its active segment and advance to the next one that needs the model."""
        self.segment += 1
        self.active = None
        sent: Any = outcome
        while True:
            try:
                segment = self.request.program.send(sent)
            except StopIteration as stop:
                self.value = stop.value
                return
            except Exception as error:  # the program's own; the others continue
                self.error = error
                return
            sent = None
            if isinstance(segment, Given):
                self.sequence += segment.tokens
            elif isinstance(segment, Mark):
                sent = len(self.sequence)
            elif isinstance(segment, Rewind):
                self.rewind(segment.length)
            elif isinstance(segment, Sample) and segment.limit < 1:
                sent = Written(tokens=(), reason="limit")
            elif len(self.sequence) + _least_room(segment) > self.context:
                sent = Written(tokens=(), reason="context") if isinstance(segment, Sample) else None
            else:
                break
        assert self.sequence, "a program must force a token before it samples"
        self.active, self.start = segment, len(self.sequence)
        # The output of the last token is needed: if it was fed before, it is fed again.
        self.fed = min(self.fed, len(self.sequence) - 1)
        self.filling = isinstance(segment, Queries) or len(self.sequence) - self.fed > RIDE
        self.scores = []
        self._force()

    def rewind(self, length: int) -> None:
        """Drop all but the first `length` tokens. A ring buffer that has wrapped is refilled from the start."""
        assert 0 < length <= len(self.sequence), "a rewind must keep a part of the sequence"
        del self.sequence[length:]
        wrapped = self.window is not None and self.fed >= self.window
        self.fed = 0 if wrapped else min(self.fed, length)

    def wrote(self, token: int, score: TokenScore | None = None) -> None:
        """Append the next sampled token; at a stop token or a limit, advance the program."""
        segment = self.segment
        self._append(token, score)
        if self.segment == segment:
            self._force()

    def _force(self) -> None:
        """Append the tokens that the active segment's constraint leaves no choice about."""
        sample, segment = self.active, self.segment
        if not isinstance(sample, Sample) or sample.constraint is None:
            return
        try:
            forced = sample.constraint.forced(self.sequence[self.start :])
        except Exception as error:
            self.fail(error)
            return
        for token in forced:
            self._append(token, None)
            if self.segment != segment:
                return
        self.filling = len(self.pending) > (RIDE_ALONE if self.is_alone else RIDE)

    def restrict(self) -> None:
        """Ask the active segment's constraint for the tokens that may follow."""
        assert isinstance(self.active, Sample) and self.active.constraint is not None
        try:
            self.allowed = self.active.constraint.allowed(self.sequence[self.start :])
        except Exception as error:
            self.fail(error)

    def _append(self, token: int, score: TokenScore | None) -> None:
        sample = self.active
        assert isinstance(sample, Sample)
        if score is not None:
            score = replace(score, alternatives=score.alternatives[: sample.alternatives])
        self.sequence.append(token)
        self.scores.append(score)
        try:
            if sample.alternatives is not None and self.request.on_score is not None:
                self.request.on_score(score)
            if self.request.on_token is not None:
                self.request.on_token(token)
            is_last = token not in sample.stop and sample.until is not None and sample.until(token)
            loops = token not in sample.stop and self._loops(sample)
        except Exception as error:
            self.fail(error)
            return
        if token in sample.stop:
            self._end(sample, "stop", token)
        elif is_last:
            self._end(sample, "stop")
        elif loops:
            self._end(sample, "loop")
        elif len(self.sequence) - self.start == sample.limit:
            self._end(sample, "limit")
        elif len(self.sequence) == self.context:
            self._end(sample, "context")

    def _loops(self, sample: Sample) -> bool:
        count = len(self.sequence) - self.start
        return sample.loops is not None and count % LOOP_CHECK == 0 and sample.loops(self.sequence[self.start :])

    def _end(self, sample: Sample, reason: Reason, stop_token: int | None = None) -> None:
        """Send the program the sampled text."""
        tokens = tuple(self.sequence[self.start :])
        self.advance(
            Written(
                tokens=tokens if stop_token is None else tokens[:-1],
                reason=reason,
                stop_token=stop_token,
                scores=() if sample.alternatives is None else tuple(self.scores),
            )
        )

    def cancel(self) -> None:
        """End the program as cancelled."""
        self.fail(Cancelled())

    def fail(self, error: Exception) -> None:
        """End the program with `error`."""
        self.segment += 1
        self.active, self.error = None, error
        self.request.program.close()

    def done(self) -> Done:
        return Done(request=self.request, value=self.value, error=self.error, reused=self.reused)


def _least_room(segment: Sample | Queries) -> int:
    return max(map(query_length, segment.queries)) if isinstance(segment, Queries) else 1
