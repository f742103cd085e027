"""The FastAPI application: its routers, its state, and errors in the form of each protocol."""

from collections.abc import Sequence
from typing import Annotated, cast

from fastapi import APIRouter, Depends, FastAPI, Request

from mlx_suite.serving.service import Service

from ..store.store import Store
from .errors import add_error_handlers
from .metrics import CountedRequests, MeasuredService, Metrics
from .response_store import ResponseStore
from .settings import ServerSettings


def create_app(service: Service, store: Store | None = None, settings: ServerSettings | None = None) -> FastAPI:
    """The application.

    Args:
        service: Answers the requests.
        store: Conversations of the page; None for a server without the page.
    """
    app = FastAPI(title="mlx-suite", docs_url=None, redoc_url=None)
    measures = Metrics(service.status)
    app.state.service = MeasuredService(service, measures)
    app.state.store, app.state.settings, app.state.metrics = store, settings or ServerSettings(), measures
    app.state.responses = ResponseStore()
    add_error_handlers(app)
    for router in _routers():
        app.include_router(router)
    if store is not None:
        from ..page import page

        app.include_router(page.router)
    app.add_middleware(CountedRequests, metrics=measures)
    return app


def _routers() -> Sequence[APIRouter]:
    """Every protocol's routes. Imported here, because their files import the dependencies below."""
    from . import (
        anthropic_messages,
        completions,
        embeddings,
        health,
        models,
        ollama,
        ollama_models,
        openai_chat,
        responses,
    )

    openai = (openai_chat, completions, responses, embeddings, models)
    others = (anthropic_messages, ollama, ollama_models, health)
    return [each.router for each in (*openai, *others)]


def _service(request: Request) -> Service:
    return cast(Service, request.app.state.service)


def _store(request: Request) -> Store:
    return cast(Store, request.app.state.store)


ServiceOf = Annotated[Service, Depends(_service)]
"""The service, as an argument of a route."""
StoreOf = Annotated[Store, Depends(_store)]
"""The store of conversations, as an argument of a route of the page."""
