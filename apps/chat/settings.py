"""Settings of a response: its length and how its tokens are sampled."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ResponseSettings:
    """How responses are generated."""

    max_tokens: int = 1024
    """Longest response, in tokens."""
    temperature: float = 0.0
    """Sampling temperature: 0 is greedy, 1 samples from the model's distribution."""
    top_p: float = 1.0
    """Nucleus sampling: keep the most probable tokens up to this total probability."""
    min_p: float = 0.0
    """Keep tokens with at least this probability relative to the most probable one."""
    seed: int | None = None
    """Random seed. Default: a new one for every response."""

    def problems(self) -> list[tuple[str, str]]:
        """Every invalid field, with its value and what is expected."""
        rules = [
            ("max_tokens", self.max_tokens >= 1, "at least 1"),
            ("temperature", 0 <= self.temperature < float("inf"), "at least 0"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("min_p", 0 <= self.min_p <= 1, "between 0 and 1"),
        ]
        return [(name, f"is {getattr(self, name)}: expected {wanted}") for name, valid, wanted in rules if not valid]
