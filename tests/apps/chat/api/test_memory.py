"""Memory of a server over thousands of requests."""

import gc
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.apps.chat.api.live_server import secured_app, serving
from tests.apps.chat.api.mutants import VALID, mutants
from tests.apps.chat.api.scripted_service import Script, ScriptedService

WARM, ALL = 2_000, 10_000
GROWTH = 4_000_000
"""Bytes that may be added from request 2,000 to request 10,000; half a kilobyte that each kept would be more."""


class ForgetfulService(ScriptedService):
    """A scripted service that does not keep the requests that arrived."""

    async def start(self, generation: Any) -> Any:
        stream = await super().start(generation)
        self.generations.clear()
        self.streams.clear()
        return stream


def resident_bytes() -> int:
    """Memory of this process, the server's and the client's, after the garbage collector."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def requests() -> Iterator[tuple[str, str, bytes | None]]:
    """Requests of every kind, without end: valid ones, mutants, and what is asked of the server itself."""
    bodies = {path: {"model": "tiny-llama3", **body} for path, body in VALID.items()}
    bodies["/v1/responses"]["store"] = False  # the server keeps a thousand of those that are stored
    seed = 0
    while True:
        seed += 1
        for path, body in bodies.items():
            yield "POST", path, json.dumps(body).encode()
            for mutant in mutants(body, 1, seed):
                yield "POST", path, json.dumps(mutant).encode()
        yield from (("GET", path, None) for path in ("/health", "/metrics", "/v1/models", f"/nothing/{seed}"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_flat_over_ten_thousand_requests() -> None:
    app = secured_app(ForgetfulService(Script("Hello there.")))
    with serving(app) as url, httpx.Client(base_url=url) as client:
        warm = 0
        for number, (method, path, content) in zip(range(ALL), requests(), strict=False):
            if number == WARM:
                warm = resident_bytes()
            answer = client.request(method, path, content=content, headers={"Content-Type": "application/json"})
            assert answer.status_code < 500, answer.text
        assert resident_bytes() - warm < GROWTH
