"""JSON bodies of requests, stricter than Python's: no NaN, no infinity, no half surrogates, no deep nesting."""

import json
import math
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute

from .errors import error_response

MAX_DEPTH = 64
"""Deepest nesting of arrays and objects."""


class JsonRequest(Request):
    """A request whose body is strict JSON."""

    async def json(self) -> Any:
        """The body. Raises JSONDecodeError, which FastAPI reports as an invalid body."""
        if not hasattr(self, "_json"):
            self._json = parse_json(await self.body())
        return self._json


class JsonRoute(APIRoute):
    """A route with strict JSON, whose errors have its protocol's form: `APIRouter(route_class=JsonRoute)`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(JsonRequest(request.scope, request.receive))
            except Exception as error:
                return error_response(request, error)

        return answer


def parse_json(body: bytes) -> Any:
    """The value of a JSON text in UTF-8. Raises JSONDecodeError."""
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_constant)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        _refuse(f"it is nested more than {MAX_DEPTH} deep")
    except UnicodeDecodeError as error:
        _refuse(f"it is not UTF-8 at byte {error.start}")
    except ValueError:
        _refuse("a number has thousands of digits")
    _check(value)
    return value


def _check(value: Any) -> None:
    """Level by level, without recursion."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for each in level:
            if isinstance(each, str):
                _check_text(each)
            elif isinstance(each, float) and not math.isfinite(each):
                _refuse("a number is too large")
            elif isinstance(each, list):
                inner += each
            elif isinstance(each, dict):
                inner += each.keys()
                inner += each.values()
        if not inner:
            return
        level = inner
    _refuse(f"it is nested more than {MAX_DEPTH} deep")


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        _refuse(f"a string contains half a surrogate pair, {text[error.start]!a}")


def _constant(name: str) -> NoReturn:
    _refuse(f"{name} is not a JSON value")


def _refuse(why: str) -> NoReturn:
    raise json.JSONDecodeError(why, "", 0)
