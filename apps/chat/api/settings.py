"""Settings of `mlx-suite serve`."""

from dataclasses import dataclass

from mlx_suite.runtime.memory import parse_size


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Address, limits and access of a server."""

    host: str = "127.0.0.1"
    """Address to listen on; the default is reachable from this machine only."""
    port: int = 8080
    """Port; 0 for any free one."""
    api_key: str | None = None
    """Key that every request must carry. None: no key is needed."""
    no_key: bool = False
    """Whether a server that other machines can reach may go without a key."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names under which the server may be addressed, besides the machine's own loopback names."""
    cors_origins: tuple[str, ...] = ()
    """Origins of other pages that may call the API."""
    max_body: int = 32_000_000
    """Largest request body in bytes."""
    slots: int = 16
    """Responses that each model writes at the same time."""
    queue: int = 64
    """Requests that may wait for a slot; further ones are refused with 429."""
    context: int | None = None
    """Maximum tokens of prompt and response together. Default: the model's context."""
    memory: str | None = None
    """Memory for KV caches and prefix cache, such as 8GB. Default: half of what the weights leave."""
    seconds: float = 600.0
    """Time limit of a request, in seconds."""

    def problems(self) -> list[tuple[str, str]]:
        """Every invalid field, with its value and what is expected."""
        rules = [
            ("port", 0 <= self.port < 65536, "0 to 65535"),
            ("slots", self.slots >= 1, "at least 1"),
            ("queue", self.queue >= 0, "at least 0"),
            ("context", self.context is None or self.context >= 2, "at least 2"),
            ("memory", self.memory is None or parse_size(self.memory) is not None, "a size such as 8GB"),
            ("seconds", 0 < self.seconds < float("inf"), "above 0"),
            ("api_key", self.api_key is None or bool(self.api_key), "a key that is not empty"),
        ]
        return [(name, f"is {getattr(self, name)}: expected {wanted}") for name, valid, wanted in rules if not valid]
