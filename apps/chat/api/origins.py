"""Which Host and Origin a request may carry, so that a page of another site cannot use a server on this machine."""

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from .settings import ServerSettings

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")
DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Scheme, host and port of a page."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parsed(cls, text: str) -> "Origin | None":
        """The origin that `text` names; None for `null` and for anything that is no http(s) origin."""
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            return None
        scheme = parts.scheme.lower()
        whole = parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username)
        if scheme not in DEFAULT_PORTS or not parts.hostname or not whole:
            return None
        return cls(scheme=scheme, host=parts.hostname.lower(), port=DEFAULT_PORTS[scheme] if port is None else port)


def host_name(header: str) -> str | None:
    """The name in a Host header, in lower case and without port and brackets; None if it is malformed."""
    try:
        parts = urlsplit(f"//{header}")
        _ = parts.port  # raises for a port that is not a number
    except ValueError:
        return None
    if parts.netloc != header or parts.username is not None or not parts.hostname:
        return None
    return parts.hostname.lower()


def host_problem(scope: Scope, settings: ServerSettings) -> str | None:
    """Why the request's Host is refused: a foreign name that points here may be another site's (DNS rebinding)."""
    sent = Headers(scope=scope).getlist("host")
    name = host_name(sent[0]) if len(sent) == 1 else None
    if name is None:
        return "the request has no single valid Host header"
    known = {*LOOPBACK_NAMES, *(each.lower() for each in settings.allowed_hosts)}
    if not is_loopback(settings.host):
        # With a wildcard address the socket knows which of the machine's own addresses was called.
        known |= {settings.host.lower(), *((scope.get("server") or ())[:1])} - {"0.0.0.0", "::"}
    if name in known:
        return None
    return (
        f"the host {name!r} is not one of this server's names: "
        "use 127.0.0.1 or localhost, or start the server with this name among its allowed hosts"
    )


def origin_problem(scope: Scope, settings: ServerSettings) -> str | None:
    """Why the request's Origin is refused. Programs other than browsers send none."""
    headers = Headers(scope=scope)
    sent = headers.getlist("origin")
    if not sent:
        site, mode = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode", "")
        if site in ("cross-site", "same-site") and mode != "navigate":
            return "another site's page may not load this server's resources"
        return None
    if len(sent) > 1:
        return "the request has several Origin headers"
    if same_origin(scope, sent[0]) or allowed_origin(sent[0], settings):
        return None
    return (
        f"the origin {sent[0][:100]!r} may not use this server: start the server with it among its allowed CORS origins"
    )


def same_origin(scope: Scope, origin: str) -> bool:
    """Whether a page's origin is the server as the request addresses it."""
    own = Origin.parsed(f"{scope.get('scheme', 'http')}://{Headers(scope=scope).get('host', '')}")
    return own is not None and own == Origin.parsed(origin)


def allowed_origin(origin: str, settings: ServerSettings) -> bool:
    """Whether other pages of this origin may call the API."""
    known = {Origin.parsed(each) for each in settings.cors_origins} - {None}
    return Origin.parsed(origin) in known


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reachable from this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
