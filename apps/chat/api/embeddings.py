"""OpenAI's embeddings: POST /v1/embeddings."""

import asyncio
import base64
import struct
from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from mlx_suite.serving.service import Service

from .answering import while_connected
from .app import ServiceOf
from .completions import TokenId, prompts_of
from .errors import OPENAI_ERRORS, ParameterError
from .json_body import JsonRoute
from .openai_parameters import Body, Count

router = APIRouter(route_class=JsonRoute, tags=["OpenAI"], responses=OPENAI_ERRORS)

BATCH = 16
"""Inputs that are computed at once: a request with many inputs does not fill the queue."""
CLIENT_GONE = 499
"""Status that nobody receives."""


class EmbeddingBody(Body):
    """The body of a request for embeddings."""

    input: str | list[str] | list[TokenId] | list[list[TokenId]]
    model: Annotated[str, Field(max_length=512)] = ""
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Count | None = None


class _Embedding:
    """Vectors that are being computed."""

    def __init__(self, service: Service, model: str, prompts: Sequence[tuple[int, ...]]) -> None:
        self._service, self._model = service, model
        self.vectors = asyncio.ensure_future(self._in_batches(prompts))

    def cancel(self) -> None:
        self.vectors.cancel()

    async def _in_batches(self, prompts: Sequence[tuple[int, ...]]) -> list[list[float]]:
        vectors: list[list[float]] = []
        for start in range(0, len(prompts), BATCH):
            vectors += await self._service.embed(self._model, prompts[start : start + BATCH])
        return vectors


@router.post("/v1/embeddings", response_model=None)
async def embeddings(body: EmbeddingBody, request: Request, service: ServiceOf) -> Response:
    """A vector of length 1 for each input: the final hidden state of its last token."""
    served = service.model(body.model)
    prompts = await asyncio.to_thread(prompts_of, body.input, served, "input")
    work = _Embedding(service, served.name, prompts)
    try:
        vectors = await while_connected(request, work, asyncio.shield(work.vectors))
    except asyncio.CancelledError:
        if not work.vectors.cancelled():
            raise
        return Response(status_code=CLIENT_GONE)
    size = len(vectors[0])
    if body.dimensions not in (None, size):
        raise ParameterError("dimensions", f"this model's vectors have {size} dimensions", "leave it out")
    tokens = sum(map(len, prompts))
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(vector, body.encoding_format)}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return JSONResponse({"object": "list", "data": data, "model": served.name, "usage": usage})


def _encoded(vector: Sequence[float], encoding: str) -> Sequence[float] | str:
    """The vector as it is, or its little-endian fp32 bytes in base64."""
    if encoding == "float":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
