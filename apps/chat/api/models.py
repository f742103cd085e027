"""OpenAI's list of models: GET /v1/models and /v1/models/{id}."""

from typing import Any

from fastapi import APIRouter

from mlx_suite.serving.service import ServedModel

from .app import ServiceOf
from .errors import OPENAI_ERRORS
from .json_body import JsonRoute

router = APIRouter(route_class=JsonRoute, tags=["OpenAI"], responses=OPENAI_ERRORS)


@router.get("/v1/models", response_model=None)
async def list_models(service: ServiceOf) -> dict[str, Any]:
    """All served models, the default first."""
    return {"object": "list", "data": [_described(served) for served in service.models.values()]}


@router.get("/v1/models/{name:path}", response_model=None)
async def get_model(name: str, service: ServiceOf) -> dict[str, Any]:
    """One served model; names may contain slashes."""
    return _described(service.model(name))


def _described(served: ServedModel) -> dict[str, Any]:
    return {
        "id": served.name,
        "object": "model",
        "created": served.created,
        "owned_by": "mlx-suite",
        "root": served.base,
        "max_model_len": served.chat.context,
    }
