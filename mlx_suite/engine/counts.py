"""What a run of the engine has cost."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class EngineStats:
    """Tokens, steps and seconds."""

    prefilled: int = 0
    """Tokens fed in chunks."""
    ridden: int = 0
    """Given tokens fed one per step."""
    aside: int = 0
    """Tokens of questions asked aside."""
    timed: int = 0
    """Of those, tokens of asides that were timed: one in `engine.TIMED`."""
    timed_seconds: float = 0.0
    sampled: int = 0
    """Tokens the model wrote, stop tokens included."""
    steps: int = 0
    slot_steps: int = 0
    """Steps times their slots."""
    idle: int = 0
    """Slot-steps that served no program: an empty slot, or one whose program had just ended."""
    put_back: int = 0
    """Programs begun again because memory was short."""

    @property
    def busy(self) -> float:
        """Share of the slot-steps that served a program."""
        return 1.0 - self.idle / max(self.slot_steps, 1)

    @property
    def aside_seconds(self) -> float:
        """Spent on questions: what was timed, carried to all their tokens."""
        return self.timed_seconds * self.aside / max(self.timed, 1)
