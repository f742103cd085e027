"""The FastAPI application: its routers, its state, and errors in the form of each protocol."""

from typing import Annotated, cast

from fastapi import Depends, FastAPI, Request

from mlx_suite.serving.service import Service

from ..store.store import Store
from .settings import ServerSettings


def create_app(service: Service, store: Store | None = None, settings: ServerSettings | None = None) -> FastAPI:
    """The application.

    Args:
        service: Answers the requests.
        store: Conversations of the page; None for a server without the page.
    """
    app = FastAPI(title="mlx-suite", docs_url=None, redoc_url=None)
    from . import anthropic_messages, health, metrics, ollama, ollama_models

    measures = metrics.Metrics(service.status)
    measured = metrics.MeasuredService(service, measures)
    app.state.service, app.state.store, app.state.settings = measured, store, settings or ServerSettings()
    app.state.metrics = measures
    for part in (anthropic_messages, ollama, ollama_models, health):
        app.include_router(part.router)
    app.add_middleware(metrics.CountedRequests, metrics=measures)
    return app


def _service(request: Request) -> Service:
    return cast(Service, request.app.state.service)


def _store(request: Request) -> Store:
    return cast(Store, request.app.state.store)


ServiceOf = Annotated[Service, Depends(_service)]
"""The service, as an argument of a route."""
StoreOf = Annotated[Store, Depends(_store)]
"""The store of conversations, as an argument of a route of the page."""
