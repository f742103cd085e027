"""The server: loads models, listens, and answers until it is stopped."""

import os
import signal
import socket
import sys
import webbrowser
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.memory import parse_size
from mlx_suite.serving.engine_service import EngineService
from mlx_suite.serving.worker import Limits, LoadedModel, Worker

from .api.app import create_app
from .api.security import check_exposure, secured
from .api.settings import ServerSettings
from .served_models import load_models
from .store.store import Store

if TYPE_CHECKING:
    from ..cli.checkpoint import Checkpoint

SHUTDOWN_SECONDS = 3
"""Time that responses in flight have to end after Ctrl-C."""
PREFIX_SHARE = 4
"""The prefix cache has this fraction of the memory budget: one byte in 4. The KV caches have the rest."""


def run_server(
    models: Sequence[str],
    adapters: Mapping[str, Path],
    settings: ServerSettings,
    opener: "Callable[[str], Checkpoint]",
    *,
    browser: bool = False,
) -> None:
    """Serve until Ctrl-C.

    Raises UserError if the port is taken or a model cannot be loaded.
    """
    check_exposure(settings)
    listener = _listen(settings.host, settings.port)
    url = _url(settings.host, listener)

    def load() -> list[LoadedModel]:
        return load_models(models, adapters, opener, settings.context)

    with listener, Store() as store:
        worker = Worker(load, lambda: limits_of(settings))
        worker.start()
        try:
            app = secured(create_app(EngineService(worker, seconds=settings.seconds), store, settings), settings)
            server = InterruptibleServer(
                uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=SHUTDOWN_SECONDS)
            )
            names = ", ".join(worker.models)
            print(f"{names} on {url}   (Ctrl-C stops the server)", file=sys.stderr, flush=True)
            if browser:
                webbrowser.open(url)
            server.run(sockets=[listener])
        finally:
            worker.close()


class InterruptibleServer(uvicorn.Server):
    """Stops on the first signal, and exits at once on the second."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle SIGINT and SIGTERM while the server runs."""

        def stop(number: int, frame: object) -> None:
            if self.should_exit:
                os._exit(128 + number)
            self.should_exit = True

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def limits_of(settings: ServerSettings) -> Limits:
    """Limits of a worker, once the weights are loaded: by default, caches get half of the memory that they leave."""
    import mlx.core as mx

    from mlx_suite.runtime.device import device

    stated = None if settings.memory is None else parse_size(settings.memory)
    budget = stated or max(0, device().working_set_bytes - mx.get_active_memory()) // 2
    prefix_bytes = budget // PREFIX_SHARE
    return Limits(
        slots=settings.slots, waiting=settings.queue, kv_bytes=budget - prefix_bytes, prefix_bytes=prefix_bytes
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()  # so that a browser that is opened before the first answer waits
    except OSError as error:
        listener.close()
        raise UserError(
            f"The server cannot listen on {host} port {port}: {error.strerror or error}",
            where="--port" if error.errno != socket.EAI_NONAME else "--host",
            fix="stop the program that uses the port, or choose another one: --port 0 takes a free one",
        ) from error
    return listener


def _url(host: str, listener: socket.socket) -> str:
    name = f"[{host}]" if ":" in host else "localhost" if host in ("0.0.0.0", "127.0.0.1") else host
    return f"http://{name}:{listener.getsockname()[1]}"
