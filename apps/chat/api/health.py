"""`/health`: whether the server works and what it is doing; `/metrics`: the same in numbers, for Prometheus."""

from typing import cast

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse

import mlx_suite

from .app import ServiceOf
from .metrics import Metrics

router = APIRouter(tags=["Health"])


@router.get("/health")
async def health(service: ServiceOf) -> Response:
    """Status, load, and the last failure of the engine, after which it went on."""
    status = service.status()
    return JSONResponse(
        {
            "status": "ok",
            "version": mlx_suite.__version__,
            "models": list(service.models),
            "running": status.running,
            "waiting": status.waiting,
            "slots": status.slots,
            "failures": status.failures,
            "last_failure": status.last_failure,
        }
    )


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Counters, gauges and histograms in Prometheus' text format."""
    return Response(cast(Metrics, request.app.state.metrics).text(), media_type=CONTENT_TYPE_LATEST)
