"""Conversations and messages as the page gets them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from mlx_suite.runtime.errors import UserError
from mlx_suite.serving.service import EngineFailure, PromptTooLong, QueueFull, Service, UnknownModel
from mlx_suite.text.message import ASSISTANT

from ..store.conversation import Conversation, NotFound, StoredMessage
from .history import setup_of
from .magpie_sessions import UnknownSession
from .render import render
from .sampling import stored_settings

COMPARE = "compare"
"""Key in a conversation's `sampling`: the setups of the two columns."""
IDS = "ids"
"""Key in a response's facts: its token ids. The page does not get them."""
CODES: tuple[tuple[type[Exception], str, int], ...] = (
    (NotFound, "not_found", 404),
    (UnknownSession, "not_found", 404),
    (UnknownModel, "unknown_model", 404),
    (QueueFull, "queue_full", 429),
    (PromptTooLong, "context_length_exceeded", 400),
    (UserError, "invalid", 400),
    (EngineFailure, "engine_failure", 500),
)
"""Code and HTTP status of each error."""

FACTS: Mapping[str, type | tuple[type, ...]] = {
    "model": str,
    "adapter": str,
    "context": int,
    "prompt_tokens": int,
    "cached_tokens": int,
    "tokens": int,
    "tokens_per_second": (int, float),
    "seed": int,
    "finish_reason": str,
    "reasoning": str,
    "continued": int,
}
"""Types of the facts that the page shows; an imported message may have anything there."""

rendered = lru_cache(maxsize=1024)(render)
"""HTML of a finished response."""


def conversation_form(conversation: Conversation, *, is_writing: bool = False) -> dict[str, Any]:
    """A conversation without its messages."""
    setup = setup_of(conversation)
    return {
        "id": conversation.id,
        "title": conversation.title,
        "model": conversation.model,
        "system": conversation.system,
        "settings": setup.settings.changed(),
        "dropped": setup.dropped,
        "compare": _columns(conversation.sampling.get(COMPARE)),
        "created": conversation.created,
        "updated": conversation.updated,
        "writing": is_writing,
    }


def message_form(message: StoredMessage) -> dict[str, Any]:
    """A message; a response also as HTML."""
    return {
        "id": message.id,
        "conversation": message.conversation,
        "parent": message.parent,
        "role": message.role,
        "content": message.content,
        "html": rendered(message.content) if message.role == ASSISTANT else None,
        "created": message.created,
        "state": message.state,
        "facts": {name: value for name, value in valid_facts(message.facts).items() if name != IDS},
        "siblings": list(message.siblings),
    }


def valid_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that have the type they should have."""
    valid = {name: value for name, value in facts.items() if isinstance(value, FACTS.get(name, object))}
    error = valid.get("error")
    if not (isinstance(error, dict) and isinstance(error.get("what"), str)):
        valid.pop("error", None)
    return valid


def _columns(stored: Any) -> list[dict[str, Any]] | None:
    """The setups of a comparison; None for a conversation that is none."""
    if not (isinstance(stored, list) and len(stored) == 2 and all(isinstance(each, dict) for each in stored)):
        return None
    return [
        {
            "model": str(each.get("model", "")),
            "system": str(each.get("system", "")),
            "settings": stored_settings(each.get("settings", {})).changed(),
        }
        for each in stored
    ]


def error_form(error: Exception) -> tuple[int, dict[str, Any]]:
    """HTTP status and description of an error."""
    code, status = next((code, status) for kind, code, status in CODES if isinstance(error, kind))
    form: dict[str, Any] = {"code": code, "what": str(error), "fix": "", "where": "", "details": []}
    if isinstance(error, UserError):
        form |= {"what": error.what, "fix": error.fix, "where": error.where, "details": list(error.details)}
    if isinstance(error, PromptTooLong):
        form |= {"prompt_tokens": error.prompt_tokens, "context": error.context}
    if isinstance(error, QueueFull):
        form |= {"retry_after": error.retry_after}
    return status, form


def model_forms(service: Service) -> list[dict[str, Any]]:
    """The served models, the default one first."""
    return [
        {
            "name": served.name,
            "base": served.base,
            "is_adapter": served.base != served.name,
            "context": served.chat.context,
        }
        for served in service.models.values()
    ]
