"""A request that is not answered: its status and the body that each protocol's clients understand."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from mlx_suite.runtime.errors import UserError
from mlx_suite.serving.service import EngineFailure, PromptTooLong, QueueFull, UnknownModel

ANTHROPIC_TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
}
"""Anthropic's `error.type` by status; other statuses below 500 are invalid requests."""
OLLAMA_PATHS = ("/api/chat", "/api/generate", "/api/tags", "/api/show", "/api/version", "/api/ps")
SHOWN_PROBLEMS = 5
_TYPE_NAMES = frozenset({"str", "int", "bool", "float", "list", "dict", "none"})
_NAME = re.compile(r"[a-z_][a-z_0-9]*")
_FIELD = re.compile(r"[a-z_0-9]+(\.[a-z_0-9]+|\[\d+\])*")


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a request is not answered."""

    status: int
    message: str
    code: str | None = None
    """Short name that programs compare, in OpenAI's form."""
    param: str | None = None
    """Field of the body at fault."""
    headers: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, int] = field(default_factory=dict)
    """Numbers for programs."""


def refusal_of(error: Exception) -> Refusal:
    """What to answer for an error; the text of an error of our own is not shown to clients."""
    match error:
        case RequestValidationError():
            return _invalid(error.errors())
        case HTTPException():
            return Refusal(status=error.status_code, message=str(error.detail), headers=dict(error.headers or {}))
        case UnknownModel():
            return Refusal(status=404, message=one_line(error), code="model_not_found", param="model")
        case QueueFull():
            seconds = max(1, round(error.retry_after))
            return Refusal(
                status=429, message=one_line(error), code="queue_full", headers={"Retry-After": str(seconds)}
            )
        case PromptTooLong():
            return _too_long(error)
        case UserError():
            # Other errors name files of the server.
            param = error.where if _FIELD.fullmatch(error.where) else None
            return Refusal(status=400, message=one_line(error), param=param)
        case EngineFailure():
            return Refusal(
                status=500,
                message="the engine failed on this request; others are not affected, and it may be sent again",
                code="engine_failure",
            )
        case OverflowError():  # such as a conversation's number that SQLite cannot hold
            return Refusal(status=400, message="a number is too large")
        case RecursionError():
            return Refusal(status=400, message="the body is nested too deeply")
        case UnicodeEncodeError():
            return Refusal(status=400, message="the body holds half of a surrogate pair, which is not a character")
    return Refusal(status=500, message="internal error; the server's log holds the details", code="internal_error")


def refusal_response(path: str, refusal: Refusal, request_id: str) -> Response:
    """The answer in the form of the protocol that `path` belongs to."""
    body = refusal_body(path, refusal, request_id)
    return Response(
        json.dumps(body),  # in ASCII: a message may quote a lone surrogate of the request
        status_code=refusal.status,
        headers=dict(refusal.headers),
        media_type="application/json",
    )


def refusal_body(path: str, refusal: Refusal, request_id: str) -> dict[str, Any]:
    """The body of an error in Anthropic's, Ollama's or OpenAI's form."""
    if path.startswith("/v1/messages"):
        return anthropic_error(refusal, request_id)
    if path in OLLAMA_PATHS:
        return {"error": refusal.message}
    kind = "server_error" if refusal.status >= 500 else _openai_type(refusal.status)
    error: dict[str, Any] = {"message": refusal.message, "type": kind, "param": refusal.param, "code": refusal.code}
    return {"error": {**error, **refusal.facts}}


def anthropic_error(refusal: Refusal, request_id: str) -> dict[str, Any]:
    """An error as Anthropic's API writes it, also inside of a stream."""
    fallback = "invalid_request_error" if refusal.status < 500 else "api_error"
    error = {"type": ANTHROPIC_TYPES.get(refusal.status, fallback), "message": refusal.message}
    return {"type": "error", "error": error, "request_id": request_id}


def one_line(error: UserError) -> str:
    """A user's error as one paragraph."""
    text = "; ".join([error.what, *error.details])
    return f"{text}: {error.fix}" if error.fix else text


def _openai_type(status: int) -> str:
    return {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(
        status, "invalid_request_error"
    )


def _too_long(error: PromptTooLong) -> Refusal:
    """In OpenAI's own words, which clients look for."""
    message = (
        f"This model's maximum context length is {error.context} tokens. "
        f"However, the prompt has {error.prompt_tokens} tokens"
    )
    return Refusal(
        status=400,
        message=f"{message}; {error.fix}" if error.fix else message,
        code="context_length_exceeded",
        param="messages",
        facts={"n_prompt_tokens": error.prompt_tokens, "n_ctx": error.context},
    )


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
