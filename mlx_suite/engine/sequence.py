"""State of a program in flight: its token sequence, and how much of it has been fed to the model."""

from typing import Any

from mlx_suite.engine.program import Done, Given, Mark, Queries, Reason, Reply, Request, Rewind, Sample, Written
from mlx_suite.engine.scoring import query_length


class SequenceState:
    """Steps a program through its segments. Between calls the program waits for the model or has ended."""

    def __init__(self, request: Request, context: int, window: int | None = None) -> None:
        self.request, self.context, self.window = request, context, window
        self.sequence: list[int] = []
        """Every token so far, forced and sampled, stop tokens included."""
        self.fed = 0
        """Number of tokens fed to the model, including a sampled token that is fed before it has been read."""
        self.active: Sample | Queries | None = None
        self.segment = 0
        """Number of the active segment, to detect a token that was sampled for a previous one."""
        self.start = 0
        """Index in the sequence at which the active segment begins."""
        self.result: Any = None
        self.advance(None)

    @property
    def ended(self) -> bool:
        return self.active is None

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
                self.result = stop.value
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

    def rewind(self, length: int) -> None:
        """Drop all but the first `length` tokens. A ring buffer that has wrapped is refilled from the start."""
        assert 0 < length <= len(self.sequence), "a rewind must keep a part of the sequence"
        del self.sequence[length:]
        wrapped = self.window is not None and self.fed >= self.window
        self.fed = 0 if wrapped else min(self.fed, length)

    def wrote(self, token: int) -> None:
        """Append the next sampled token; at a stop token or a limit, advance the program."""
        sample = self.active
        assert isinstance(sample, Sample)
        self.sequence.append(token)
        if self.request.on_token is not None:
            self.request.on_token(token)
        count = len(self.sequence) - self.start
        if token in sample.stop:
            self.advance(Written(tokens=tuple(self.sequence[self.start : -1]), reason="stop", stop_token=token))
        elif count == sample.limit or len(self.sequence) == self.context:
            reason: Reason = "limit" if count == sample.limit else "context"
            self.advance(Written(tokens=tuple(self.sequence[self.start :]), reason=reason))

    def done(self) -> Done:
        return Done(request=self.request, result=self.result)


def _least_room(segment: Sample | Queries) -> int:
    return max(map(query_length, segment.queries)) if isinstance(segment, Queries) else 1
