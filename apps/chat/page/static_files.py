"""The page's own files, held in memory: HTML, style sheets, ES modules and the icon."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

from .code_block import code_css

STATIC = Path(__file__).parent / "static"
_MEDIA = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

router = APIRouter(include_in_schema=False)


def _files() -> dict[str, tuple[str, bytes]]:
    """Media type and content by name."""
    files = {file.name: (_MEDIA[file.suffix], file.read_bytes()) for file in STATIC.iterdir()}
    return files | {"code.css": ("text/css", code_css().encode())}


_FILES = _files()
_TAGS = {name: f'"{hashlib.sha256(content).hexdigest()[:20]}"' for name, (_, content) in _FILES.items()}


@router.get("/")
async def index(request: Request) -> Response:
    """The page; no key is needed to load it."""
    return _file("index.html", request)


@router.get("/page/static/{name}")
async def static(name: str, request: Request) -> Response:
    """A file of the page, or the colours of code."""
    return _file(name, request)


def _file(name: str, request: Request) -> Response:
    if name not in _FILES:
        raise HTTPException(404, f"there is no file {name}")
    media, content = _FILES[name]
    # Browsers ask each time whether a file has changed, so that an upgrade never mixes old and new modules.
    headers = {"Cache-Control": "no-cache", "ETag": _TAGS[name]}
    if request.headers.get("if-none-match") == _TAGS[name]:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=media, headers=headers)
