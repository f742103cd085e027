"""Settings of the server."""

from dataclasses import dataclass


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
