"""Settings of a response: its length and how its tokens are sampled."""

from dataclasses import dataclass

from mlx_suite.engine.response_sampling import ResponseSampling


@dataclass(frozen=True, kw_only=True)
class ResponseSettings(ResponseSampling):
    """How responses are generated."""

    max_tokens: int = 1024
    """Longest response, in tokens."""
    seed: int | None = None
    """Random seed. Default: a new one for every response."""

    def problems(self) -> list[tuple[str, str]]:
        """Every invalid field, with its value and what is expected."""
        too_short = [("max_tokens", f"is {self.max_tokens}: expected at least 1")] * (self.max_tokens < 1)
        return [*too_short, *super().problems()]
