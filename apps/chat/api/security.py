"""Access to the server: Host, Origin, API key, size of bodies, and security headers, as pure ASGI middleware."""

import hmac
import re
import secrets
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlx_suite.runtime.errors import UserError

from .origins import Origin, allowed_origin, host_problem, is_loopback, origin_problem, same_origin
from .refusal import Refusal, refusal_response
from .settings import ServerSettings

PAGE_POLICY = (
    "default-src 'self'; img-src 'self' data:; connect-src 'self'; style-src 'self'; script-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
)
"""Nothing is loaded from elsewhere, pictures in responses included."""
SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
CORS_METHODS = "GET, POST, PUT, PATCH, DELETE"
EXPOSED_HEADERS = "Request-Id, X-Request-Id, Retry-After"
PAGE_PREFIXES = ("/page/static/",)
PAGE_PATHS = ("/", "/favicon.ico")
_HEADER_NAMES = re.compile(r"[A-Za-z0-9-]+(\s*,\s*[A-Za-z0-9-]+)*")


class BodyTooLarge(Exception):
    """A body exceeds the limit while it arrives."""


def check_exposure(settings: ServerSettings) -> None:
    """Raises UserError for a server that others could use without a key, and for CORS origins that are none."""
    if not is_loopback(settings.host) and not settings.api_key and not settings.no_key:
        raise UserError(
            f"a server on {settings.host} answers everybody who reaches this machine, and no API key is set",
            where="--host",
            fix="set --api-key, or pass --no-key if everybody may use it",
        )
    wrong = [each for each in settings.cors_origins if Origin.parsed(each) is None]
    if wrong:
        raise UserError(
            f"{wrong[0]!r} is no origin of a page",
            where="--cors-origin",
            fix="name each origin in full, such as https://chat.example.org:8443",
        )


def secured(app: ASGIApp, settings: ServerSettings) -> ASGIApp:
    """`app` for requests that may reach it; all others are refused in the form of their protocol."""
    return Secured(app, settings)


class Secured:
    """The middleware that `secured` wraps around an application."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:  # nothing here speaks WebSocket
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = f"req_{secrets.token_hex(12)}"
        scope.setdefault("state", {})["request_id"] = request_id
        origin = Headers(scope=scope).get("origin")
        shared = origin is not None and not same_origin(scope, origin) and allowed_origin(origin, self._settings)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in {**SECURITY_HEADERS, "Request-Id": request_id, "X-Request-Id": request_id}.items():
                    headers.setdefault(name, value)
                headers.add_vary_header("Origin")
                if shared and origin is not None:
                    headers["Access-Control-Allow-Origin"] = origin
                    headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal_response(scope["path"], refusal, request_id)(scope, receive, send_with_headers)
        elif shared and _is_preflight(scope):
            await send_with_headers(_preflight_start(scope))
            await send_with_headers({"type": "http.response.body", "body": b""})
        else:
            refusal = self._key_refusal(scope) or self._length_refusal(scope)
            if refusal is not None:
                await refusal_response(scope["path"], refusal, request_id)(scope, receive, send_with_headers)
            else:
                await self._answer_limited(scope, receive, send_with_headers)

    async def _answer_limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, but 413 if more bytes arrive than a body may have, whatever the headers promised."""
        received = 0
        started = False

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._settings.max_body:
                raise BodyTooLarge
            return message

        async def send_unless_refused(message: Message) -> None:
            nonlocal started
            if received <= self._settings.max_body or started:
                started = True
                await send(message)

        try:
            await self._app(scope, receive_counted, send_unless_refused)
        except BodyTooLarge:
            pass
        if received > self._settings.max_body and not started:
            response = refusal_response(scope["path"], self._too_large(), scope["state"]["request_id"])
            await response(scope, receive, send)

    def _refusal(self, scope: Scope) -> Refusal | None:
        problem = host_problem(scope, self._settings)
        if problem is not None:
            return Refusal(status=403, message=problem, code="host_not_allowed")
        problem = origin_problem(scope, self._settings)
        return None if problem is None else Refusal(status=403, message=problem, code="origin_not_allowed")

    def _key_refusal(self, scope: Scope) -> Refusal | None:
        wanted = self._settings.api_key
        if not wanted or _is_page_file(scope):
            return None
        headers = Headers(scope=scope)
        scheme, _, token = headers.get("authorization", "").partition(" ")
        sent = [headers.get("x-api-key", ""), token.strip() if scheme.lower() == "bearer" else ""]
        if any([hmac.compare_digest(each.encode(), wanted.encode()) for each in sent]):
            return None
        missing = not any(sent)
        return Refusal(
            status=401,
            message="an API key is needed: send it as `Authorization: Bearer KEY` or `x-api-key: KEY`"
            if missing
            else "the API key is wrong",
            code="missing_api_key" if missing else "invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )

    def _length_refusal(self, scope: Scope) -> Refusal | None:
        length = Headers(scope=scope).get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            return Refusal(status=400, message="Content-Length is not a number")
        return self._too_large() if len(length) > 18 or int(length) > self._settings.max_body else None

    def _too_large(self) -> Refusal:
        return Refusal(
            status=413,
            message=f"the body is larger than {self._settings.max_body:,} bytes",
            code="request_too_large",
            headers={"Connection": "close"},
        )


def _is_page_file(scope: Scope) -> bool:
    """The page itself, which asks for the key."""
    path = scope["path"]
    return scope["method"] in ("GET", "HEAD") and (path in PAGE_PATHS or path.startswith(PAGE_PREFIXES))


def _is_preflight(scope: Scope) -> bool:
    return scope["method"] == "OPTIONS" and "access-control-request-method" in Headers(scope=scope)


def _preflight_start(scope: Scope) -> dict[str, Any]:
    """Permission for an allowed origin; the headers it asks for are named, never `*`."""
    asked = Headers(scope=scope)
    message: dict[str, Any] = {"type": "http.response.start", "status": 204, "headers": []}
    headers = MutableHeaders(scope=message)
    headers["Access-Control-Allow-Methods"] = CORS_METHODS
    names = asked.get("access-control-request-headers", "")
    if _HEADER_NAMES.fullmatch(names):
        headers["Access-Control-Allow-Headers"] = names
    if asked.get("access-control-request-private-network") == "true":
        headers["Access-Control-Allow-Private-Network"] = "true"
    headers["Access-Control-Max-Age"] = "600"
    return message
