"""Ollama's API for models: `/api/tags`, `/api/ps`, `/api/show` and `/api/version`."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Response
from starlette.responses import JSONResponse

import mlx_suite
from mlx_suite.runtime.files import json_if_any
from mlx_suite.serving.service import ServedModel

from .app import ServiceOf
from .errors import ParameterError
from .json_body import JsonRoute
from .ollama_request import ShowBody, served_model

router = APIRouter(route_class=JsonRoute, tags=["Ollama"])

NEVER = "9999-12-31T23:59:59Z"
"""Served models stay loaded."""
Json = dict[str, Any]


@router.get("/api/version")
async def version() -> Response:
    """The version of this server."""
    return JSONResponse({"version": mlx_suite.__version__})


@router.get("/api/tags")
async def tags(service: ServiceOf) -> Response:
    """The served models."""
    return JSONResponse({"models": [_entry(served) for served in service.models.values()]})


@router.get("/api/ps")
async def running(service: ServiceOf) -> Response:
    """The served models, which all stay loaded."""
    entries = [
        {**_entry(served), "expires_at": NEVER, "size_vram": _bytes_of(served), "context_length": served.chat.context}
        for served in service.models.values()
    ]
    return JSONResponse({"models": entries})


@router.post("/api/show")
async def show(body: ShowBody, service: ServiceOf) -> Response:
    """What is known of a model."""
    if not (body.model or body.name):
        raise ParameterError("model", "model is missing")
    served = served_model(service, body.model or body.name)
    template = served.chat.template
    kind = _kind(served)
    capabilities = ["completion"]
    if template is not None and "tools" in template.source:
        capabilities.append("tools")
    return JSONResponse(
        {
            "modelfile": "",
            "parameters": "",
            "template": template.source if template is not None else "",
            "details": _details(served),
            "model_info": {"general.architecture": kind, f"{kind}.context_length": served.chat.context},
            "capabilities": capabilities,
            "modified_at": _created(served),
        }
    )


def _entry(served: ServedModel) -> Json:
    return {
        "name": served.name,
        "model": served.name,
        "modified_at": _created(served),
        "size": _bytes_of(served),
        "digest": hashlib.sha256(f"{served.name} {served.base} {served.created}".encode()).hexdigest(),
        "details": _details(served),
    }


def _details(served: ServedModel) -> Json:
    parent = served.base if served.base != served.name else ""
    kind = _kind(served)
    return {"parent_model": parent, "format": "safetensors", "family": kind, "families": [kind]}


def _created(served: ServedModel) -> str:
    return datetime.fromtimestamp(served.created, UTC).isoformat()


def _bytes_of(served: ServedModel) -> int:
    """Size of the checkpoint's weights."""
    folder = served.chat.folder
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) if folder is not None else 0


def _kind(served: ServedModel) -> str:
    """The checkpoint's `model_type`."""
    folder = served.chat.folder
    config = json_if_any(folder / "config.json") if isinstance(folder, Path) else {}
    return str(config.get("model_type", "unknown"))
