"""Errors of parameters, and answers to exceptions that reach the application."""

from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from mlx_suite.runtime.errors import UserError
from mlx_suite.serving.service import EngineFailure

from .answering import logged, request_id
from .refusal import refusal_body, refusal_response

OPENAI_ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "The request is invalid, it names something unknown, or too many others are waiting"},
    "5XX": {"description": "The server failed on this request"},
}
"""For the OpenAPI document."""


class ParameterError(UserError):
    """A parameter of a request is invalid or not supported."""

    def __init__(self, param: str, what: str, fix: str = "") -> None:
        super().__init__(what, where=param, fix=fix)

    def __reduce__(self) -> tuple[Any, ...]:
        return ParameterError, (self.where, self.what, self.fix)


def openai_error(error: Exception) -> dict[str, Any]:
    """The value of `error` in a body or an event of OpenAI's protocol."""
    value: dict[str, Any] = refusal_body("", logged(error), "")["error"]
    return value


def error_response(request: Request, error: Exception) -> Response:
    """The answer to an exception in the form of the requested path's protocol."""
    return refusal_response(request.url.path, logged(error), request_id(request))


def add_error_handlers(app: FastAPI) -> None:
    """Answer every exception that a route does not answer itself."""

    async def answer(request: Request, error: Exception) -> Response:
        return error_response(request, error)

    for kind in (UserError, EngineFailure, OverflowError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, answer)
