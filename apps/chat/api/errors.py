"""Errors as HTTP responses, in the form of the protocol whose path was requested."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from mlx_suite.runtime.errors import UserError
from mlx_suite.serving.service import EngineFailure, PromptTooLong, QueueFull, UnknownModel

_TYPE_NAMES = frozenset({"str", "int", "bool", "float", "list", "dict", "none"})
_FIELD = re.compile(r"[a-z_][a-z_0-9]*")
_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
}


class ParameterError(UserError):
    """A parameter of a request is invalid or not supported."""

    def __init__(self, param: str, what: str, fix: str = "") -> None:
        super().__init__(what, where=param, fix=fix)
        self.param = param

    def __reduce__(self) -> tuple[Any, ...]:
        return ParameterError, (self.param, self.what, self.fix)


@dataclass(frozen=True, kw_only=True)
class ApiError:
    """An error, the same for every protocol."""

    status: int
    """HTTP status."""
    message: str
    param: str | None = None
    """The parameter at fault, such as `messages[0].content`."""
    code: str | None = None
    """OpenAI's name of the error, such as `model_not_found`."""
    retry_after: float | None = None
    """Seconds after which it is worth trying again."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the error."""

    def openai(self) -> dict[str, Any]:
        """The error's value in OpenAI's protocol."""
        kind = "server_error" if self.status >= 500 else _OPENAI_TYPES.get(self.status, "invalid_request_error")
        return {"message": self.message, "type": kind, "param": self.param, "code": self.code, **self.facts}

    def body(self, path: str) -> dict[str, Any]:
        """The response's body: Anthropic's form for /v1/messages, Ollama's for /api, OpenAI's for all others."""
        if path.startswith("/v1/messages"):
            kind = _ANTHROPIC_TYPES.get(self.status, "api_error" if self.status >= 500 else "invalid_request_error")
            return {"type": "error", "error": {"type": kind, "message": self.message}}
        if path.startswith("/api/"):
            return {"error": self.message}
        return {"error": self.openai()}

    def response(self, path: str) -> JSONResponse:
        headers = {} if self.retry_after is None else {"Retry-After": str(max(1, math.ceil(self.retry_after)))}
        return JSONResponse(self.body(path), self.status, headers=headers)


def api_error(error: Exception) -> ApiError:
    """What a client is told about an exception: a user's mistake in full, a failure of ours only by name."""
    match error:
        case UnknownModel():
            return ApiError(status=404, message=_sentence(error), param="model", code="model_not_found")
        case QueueFull():
            return ApiError(
                status=429, message=_sentence(error), code="rate_limit_exceeded", retry_after=error.retry_after
            )
        case PromptTooLong():
            return _too_long(error)
        case ParameterError():
            return ApiError(status=400, message=_sentence(error), param=error.param)
        case UserError():
            return ApiError(status=400, message=_sentence(error))
        case RequestValidationError():
            return _invalid(error.errors())
        case HTTPException():
            return ApiError(status=error.status_code, message=str(error.detail))
        case EngineFailure():
            return ApiError(status=500, message=str(error) or "the engine failed", code="engine_failure")
    return ApiError(status=500, message="the server failed; its log says why", code="internal_error")


def add_error_handlers(app: FastAPI) -> None:
    """Answer every exception in the form of the requested path's protocol."""

    async def answer(request: Request, error: Exception) -> JSONResponse:
        response = api_error(error).response(request.url.path)
        if isinstance(error, HTTPException) and error.headers:
            response.headers.update(error.headers)
        return response

    for kind in (UserError, EngineFailure, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, answer)


def _sentence(error: UserError) -> str:
    details = f": {'; '.join(error.details)}" if error.details else ""
    return f"{error.what}{details}{f'; {error.fix}' if error.fix else ''}"


def _too_long(error: PromptTooLong) -> ApiError:
    numbers = {"n_prompt_tokens": error.prompt_tokens, "n_ctx": error.context}
    fix = f"; {error.fix}" if error.fix else ""
    return ApiError(
        status=400,
        message=f"This model's maximum context length is {error.context} tokens. "
        f"However, the prompt has {error.prompt_tokens} tokens{fix}",
        param="messages",
        code="context_length_exceeded",
        facts=numbers,
    )


def _invalid(problems: Sequence[Any]) -> ApiError:
    """A body that the protocol's model does not accept: every field at fault, the first one as `param`."""
    lines: list[str] = []
    first: str | None = None
    for problem in problems:
        name = _field_name(problem["loc"])
        if problem["type"] == "json_invalid":
            name, message = "", f"the body is not JSON: {problem.get('ctx', {}).get('error', problem['msg'])}"
        elif name == "" and problem["type"] in ("model_attributes_type", "missing", "model_type"):
            message = "the body must be a JSON object, sent with Content-Type: application/json"
        else:
            message = str(problem["msg"])
        lines.append(f"{name}: {message}" if name else message)
        first = first or name or None
    return ApiError(status=400, message="; ".join(dict.fromkeys(lines[:5])), param=first)


def _field_name(place: Sequence[Any]) -> str:
    """`messages[0].content` for ("body", "messages", 0, "content", "str"): without pydantic's names of types."""
    name = ""
    for part in place[1:]:
        if isinstance(part, int):
            name += f"[{part}]"
        elif _FIELD.fullmatch(part) and part not in _TYPE_NAMES:
            name += f".{part}" if name else part
    return name
