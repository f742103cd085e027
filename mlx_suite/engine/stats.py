"""Cost of an engine's run: tokens, decode steps and seconds."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class EngineStats:
    """Tokens, steps and seconds since the engine was made."""

    prefilled: int = 0
    """Tokens fed in chunks."""
    forced: int = 0
    """Forced tokens fed one per decode step."""
    queried: int = 0
    """Tokens of queries."""
    timed: int = 0
    """Tokens of the queries that were timed, one in `engine.TIMED`."""
    timed_seconds: float = 0.0
    """Seconds that those took."""
    sampled: int = 0
    """Tokens sampled, stop tokens included."""
    steps: int = 0
    """Decode steps."""
    slot_steps: int = 0
    """Decode steps times their slots."""
    idle: int = 0
    """Slot-steps without a program: an empty slot, or one whose program had just ended."""
    restarted: int = 0
    """Programs restarted because memory was short."""

    @property
    def busy(self) -> float:
        """Share of the slot-steps that served a program."""
        return 1.0 - self.idle / max(self.slot_steps, 1)

    @property
    def query_seconds(self) -> float:
        """Seconds spent on queries, extrapolated from those that were timed."""
        return self.timed_seconds * self.queried / max(self.timed, 1)
