"""A program under way: the one token sequence it makes, and how much of it has been fed to the model."""

from typing import Any

from mlx_suite.engine.program import (
    Choose,
    Chosen,
    Done,
    Given,
    Queries,
    Reason,
    Reply,
    Request,
    Rewind,
    Sample,
    Written,
)
from mlx_suite.engine.scoring import room
from mlx_suite.runtime.errors import UserError


class SequenceState:
    """Steps a program through its segments. It always waits for the model, or is at its end."""

    def __init__(self, request: Request, context: int, window: int | None = None) -> None:
        self.request, self.context, self.window = request, context, window
        self.sequence: list[int] = []
        """Every token so far, given and sampled, stop tokens included."""
        self.fed = 0
        """Tokens fed to the model. One more than are known while a sampled token is fed before it has been read."""
        self.active: Sample | Choose | Queries | None = None
        self.segment = 0
        """Counts the segments, so that a token drawn for one is not taken for the next."""
        self.start = 0
        """Where the active segment begins in the sequence."""
        self.result: Any = None
        self.advance(None)

    @property
    def ended(self) -> bool:
        return self.active is None

    @property
    def pending(self) -> list[int]:
        """Known tokens that have not been fed."""
        return self.sequence[self.fed :]

    def advance(self, outcome: Written | Chosen | tuple[Reply, ...] | None) -> None:
        """Hand the program what its last segment became and go on to the next that needs the model."""
        self.segment += 1
        self.active = None
        while True:
            try:
                segment = self.request.program.send(outcome)
            except StopIteration as stop:
                self.result = stop.value
                return
            outcome = None
            if isinstance(segment, Given):
                self.sequence += segment.tokens
            elif isinstance(segment, Rewind):
                self.rewind(segment.length)
            elif isinstance(segment, Sample) and segment.limit < 1:
                outcome = Written(tokens=(), reason="limit")
            elif len(self.sequence) + _least_room(segment) > self.context:
                outcome = self.no_room(segment)
            else:
                break
        assert self.sequence, "a program must give a token before it samples"
        self.active, self.start = segment, len(self.sequence)
        # What follows is decided by the output of the last token: if it was fed before, it is fed again.
        self.fed = min(self.fed, len(self.sequence) - 1)

    def rewind(self, length: int) -> None:
        """Forget what is behind the first `length` tokens; of a ring that has turned nothing can be kept."""
        assert 0 < length <= len(self.sequence), "a rewind leaves a part of the sequence"
        del self.sequence[length:]
        turned = self.window is not None and self.fed >= self.window
        self.fed = 0 if turned else min(self.fed, length)

    def no_room(self, segment: Sample | Choose | Queries) -> Written | None:
        if isinstance(segment, Sample):
            return Written(tokens=(), reason="context")
        if isinstance(segment, Queries):
            return None
        raise UserError(
            what=f"no room to choose a label: the text has {len(self.sequence)} tokens",
            where=f"a context of {self.context} tokens",
            fix="shorten the text, or use a model with a longer context",
        )

    def wrote(self, token: int) -> None:
        """Take the next sampled token."""
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

    def chose(self, log_probs: tuple[float, ...]) -> None:
        """Take the most probable label into the sequence."""
        choose = self.active
        assert isinstance(choose, Choose)
        index = max(range(len(log_probs)), key=log_probs.__getitem__)
        self.sequence += choose.labels[index]
        self.advance(Chosen(index=index, log_probs=log_probs))

    def done(self) -> Done:
        return Done(request=self.request, result=self.result)


def _least_room(segment: Sample | Choose | Queries) -> int:
    if isinstance(segment, Queries):
        return max(map(room, segment.queries))
    return 1 if isinstance(segment, Sample) else max(map(len, segment.labels))
