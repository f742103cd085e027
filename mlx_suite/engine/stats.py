"""Cost of an engine's runs: tokens, decode steps and seconds."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class EngineStats:
    """Tokens, steps and seconds since the engine was created."""

    prefilled: int = 0
    """Tokens fed in prefill chunks."""
    forced: int = 0
    """Forced tokens fed one per decode step."""
    queried: int = 0
    """Tokens of all queries."""
    timed: int = 0
    """Tokens of the timed queries, one batch in `engine.TIMED`."""
    timed_seconds: float = 0.0
    """Duration of the timed queries in seconds."""
    sampled: int = 0
    """Tokens sampled, stop tokens included."""
    steps: int = 0
    """Decode steps."""
    slot_steps: int = 0
    """Sum of the number of slots over all decode steps."""
    idle: int = 0
    """Slot-steps without a program: an empty slot, or one whose program had just ended."""
    restarted: int = 0
    """Programs that lost their slots to the memory budget, to be restarted."""

    @property
    def busy(self) -> float:
        """Fraction of slot-steps that served a program."""
        return 1.0 - self.idle / max(self.slot_steps, 1)

    @property
    def query_seconds(self) -> float:
        """Seconds spent on queries, extrapolated from the timed ones."""
        return self.timed_seconds * self.queried / max(self.timed, 1)
