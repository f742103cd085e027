"""OpenAI's embeddings: POST /v1/embeddings."""

import base64
import struct
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field

from .app import ServiceOf
from .completions import TokenId, prompts_of
from .errors import ParameterError
from .json_body import JsonRoute
from .openai_parameters import Body, Count

router = APIRouter(route_class=JsonRoute, tags=["OpenAI"])


class EmbeddingBody(Body):
    """The body of a request for embeddings."""

    input: str | list[str] | list[TokenId] | list[list[TokenId]]
    model: Annotated[str, Field(max_length=512)] = ""
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Count | None = None


@router.post("/v1/embeddings", response_model=None)
async def embeddings(body: EmbeddingBody, service: ServiceOf) -> dict[str, Any]:
    """A vector of length 1 for each input: the final hidden state of its last token."""
    served = service.model(body.model)
    prompts = prompts_of(body.input, served, "input")
    vectors = await service.embed(served.name, prompts)
    size = len(vectors[0])
    if body.dimensions not in (None, size):
        raise ParameterError("dimensions", f"this model's vectors have {size} dimensions", "leave it out")
    tokens = sum(map(len, prompts))
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _encoded(vector, body.encoding_format)}
            for index, vector in enumerate(vectors)
        ],
        "model": served.name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _encoded(vector: Sequence[float], encoding: str) -> Sequence[float] | str:
    """The vector as it is, or its little-endian fp32 bytes in base64."""
    if encoding == "float":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
