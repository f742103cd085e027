"""Errors of OpenAI's protocol, and answers to exceptions that reach the application."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from mlx_suite.runtime.errors import UserError
from mlx_suite.serving.service import EngineFailure, PromptTooLong

from .answering import logged, request_id
from .refusal import OLLAMA_PATHS, Refusal, refusal_body, refusal_response

SHOWN_PROBLEMS = 5
_TYPE_NAMES = frozenset({"str", "int", "bool", "float", "list", "dict", "none"})
_NAME = re.compile(r"[a-z_][a-z_0-9]*")
_FIELD = re.compile(r"[a-z_0-9]+(\.[a-z_0-9]+|\[\d+\])*")

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
    """The value of `error` in an event of OpenAI's protocol."""
    return _value(error, _refusal(error))


def error_response(request: Request, error: Exception) -> Response:
    """The answer to an exception in the form of the requested path's protocol."""
    path = request.url.path
    if path.startswith("/v1/messages") or path in OLLAMA_PATHS:
        return refusal_response(path, logged(error), request_id(request))
    refusal = _refusal(error)
    return JSONResponse({"error": _value(error, refusal)}, refusal.status, headers=dict(refusal.headers))


def add_error_handlers(app: FastAPI) -> None:
    """Answer every exception that a route does not answer itself."""

    async def answer(request: Request, error: Exception) -> Response:
        return error_response(request, error)

    for kind in (UserError, EngineFailure, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, answer)


def _refusal(error: Exception) -> Refusal:
    if isinstance(error, RequestValidationError):
        return _invalid(error.errors())
    refusal = logged(error)
    if isinstance(error, PromptTooLong):
        # Clients look for OpenAI's own words.
        message = (
            f"This model's maximum context length is {error.context} tokens. "
            f"However, the prompt has {error.prompt_tokens} tokens"
        )
        return replace(refusal, message=f"{message}; {error.fix}" if error.fix else message)
    if refusal.param is not None and not _FIELD.fullmatch(refusal.param):
        return replace(refusal, param=None)  # a file of the server, not a field of the request
    return refusal


def _value(error: Exception, refusal: Refusal) -> dict[str, Any]:
    value: dict[str, Any] = refusal_body("", refusal, "")["error"]
    if isinstance(error, PromptTooLong):
        return {**value, "n_prompt_tokens": error.prompt_tokens, "n_ctx": error.context}
    return value


def _invalid(problems: Sequence[Any]) -> Refusal:
    """A body of the wrong form: its fields at fault, and the first of them as `param`."""
    lines: list[str] = []
    first: str | None = None
    for problem in problems:
        name = _field_name(problem["loc"])
        if problem["type"] == "json_invalid":
            name, message = "", f"the body is not valid JSON: {problem['ctx']['error']}"
        elif name == "" and problem["loc"][0] == "body":
            message = "the body must be a JSON object, sent with Content-Type: application/json"
        else:
            message = str(problem["msg"])
        lines.append(f"{name}: {message}" if name else message)
        first = first or name or None
    return Refusal(status=400, message="; ".join(dict.fromkeys(lines[:SHOWN_PROBLEMS])), param=first)


def _field_name(place: Sequence[Any]) -> str:
    """`messages[0].content` for ("body", "messages", 0, "content", "str"): without pydantic's names of types."""
    name = ""
    for part in place[1:]:
        if isinstance(part, int):
            name += f"[{part}]"
        elif _NAME.fullmatch(part) and part not in _TYPE_NAMES:
            name += f".{part}" if name else part
    return name
