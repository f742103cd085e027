"""The servers that are compared, each started as a process of its own on a free port of 127.0.0.1."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from mlx_suite.runtime.blas import load_blas

from .serving_client import Endpoint, ask

STARTING = 90.0
"""Seconds within which a server has to answer its first request."""
ENDING = 10.0
"""Seconds that a server gets to stop before it is killed."""

Command = Callable[[Path, int], list[str]]
"""(checkpoint folder, port) → command line."""


class ServerDown(Exception):
    """A server that did not start, with the end of its log."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A server program."""

    name: str
    command: Command
    environment: Mapping[str, str] = field(default_factory=dict)
    model: str | None = None
    """Name of the model in requests; None: the first of /v1/models."""


def ours() -> Peer:
    """`mlx-suite serve` of this environment."""
    start = [sys.executable, "-m", "mlx_suite_apps.cli.main", "serve"]
    return Peer(name="mlx-suite", command=lambda folder, port: [*start, str(folder), "--port", str(port)])


def mlx_lm(python: str = sys.executable) -> Peer:
    """mlx-lm's server."""

    def command(folder: Path, port: int) -> list[str]:
        return [python, "-m", "mlx_lm", "server", "--model", str(folder), "--port", str(port)]

    return Peer(name="mlx-lm", command=command, model="default_model")


def rapid_mlx(python: str) -> Peer:
    """rapid-mlx, whose requests are batched by default; it keeps no files of earlier runs."""

    def command(folder: Path, port: int) -> list[str]:
        start = [str(Path(python).with_name("rapid-mlx")), "serve", str(folder), "--port", str(port)]
        return [*start, "--disable-disk-caches"]

    return Peer(name="rapid-mlx", command=command, environment={"RAPID_MLX_TELEMETRY": "0"})


def vllm_mlx(python: str) -> Peer:
    """vllm-mlx with continuous batching, which is off by default."""

    def command(folder: Path, port: int) -> list[str]:
        start = [str(Path(python).with_name("vllm-mlx")), "serve", str(folder), "--host", "127.0.0.1"]
        return [*start, "--port", str(port), "--continuous-batching"]

    return Peer(name="vllm-mlx", command=command)


@dataclass(kw_only=True)
class Server:
    """A running server."""

    peer: Peer
    process: subprocess.Popen[bytes]
    endpoint: Endpoint
    log: IO[bytes]

    def alive(self) -> bool:
        return self.process.poll() is None

    def peak_bytes(self) -> int | None:
        """Peak resident memory of its processes; None where /proc does not tell."""
        peaks = [_status_bytes(pid, "VmHWM") for pid in _group(self.process.pid)]
        return sum(peak for peak in peaks if peak) or None

    def blas(self) -> str:
        """The BLAS library that its processes have mapped."""
        if not Path("/proc/self/maps").exists():
            return load_blas().name
        for pid in _group(self.process.pid):
            try:
                mapped = Path(f"/proc/{pid}/maps").read_text()
            except OSError:
                continue
            for library, name in (("libmkl_rt", "MKL"), ("libopenblas", "OpenBLAS")):
                if library in mapped:
                    return name
        return "bundled"

    def stop(self) -> None:
        """End the server and all processes of its group."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(ENDING)
            # Whatever ignored that, workers of an ended server included.
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """SIGTERM raises SystemExit, as Ctrl-C raises KeyboardInterrupt, so that a running server is stopped."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def start(peer: Peer, folder: Path, log: Path, greeting: str = "hello", patience: float = STARTING) -> Server:
    """Start a server and wait until it has answered `greeting`. Raises ServerDown."""
    port = _free_port()
    written = log.open("wb")
    # No downloads, and no files in the user's folders.
    environment = os.environ | _fast_blas() | {"HF_HUB_OFFLINE": "1", "XDG_DATA_HOME": str(log.parent)}
    process = subprocess.Popen(
        peer.command(folder, port),
        stdin=subprocess.DEVNULL,
        stdout=written,
        stderr=subprocess.STDOUT,
        env=environment | dict(peer.environment),
        start_new_session=True,
    )
    server = Server(peer=peer, process=process, endpoint=Endpoint(port=port, model=peer.model or ""), log=written)
    try:
        deadline = time.monotonic() + patience
        while _get(port, "/health") is None:
            if not server.alive() or time.monotonic() > deadline:
                raise ServerDown(_last_line(log))
            time.sleep(0.1)
        model = peer.model or json.loads(_get(port, "/v1/models") or "{}")["data"][0]["id"]
        server.endpoint = Endpoint(port=port, model=model)
        failure = ask(server.endpoint, [{"role": "user", "content": greeting}], 8, patience=patience).failure
        if failure:
            raise ServerDown(f"{failure}; {_last_line(log)}")
    except BaseException:
        server.stop()
        raise
    return server


def _get(port: int, path: str) -> bytes | None:
    """The answer of a server; None while it does not answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.read() if response.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _fast_blas() -> dict[str, str]:
    """Environment that gives a process our BLAS: preloaded, it comes before the one that MLX's wheel bundles."""
    blas = load_blas()
    if blas.path is None:
        return {}
    libraries = [blas.path]
    if blas.name == "MKL" and (threads := blas.path.with_name("libiomp5.so")).exists():
        libraries.insert(0, threads)
    return {
        "LD_PRELOAD": " ".join(map(str, libraries)),
        "MKL_INTERFACE_LAYER": "LP64",
        "MKL_THREADING_LAYER": "INTEL" if len(libraries) > 1 else "GNU",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _group(leader: int) -> list[int]:
    """Processes of a session, by its leader; only the leader where there is no /proc."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The fields after the command's name: state, parent, group, session.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader:
            found.append(int(folder.name))
    return found or [leader]


def _status_bytes(pid: int, key: str) -> int | None:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:")), None)


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:200] if lines else "it wrote nothing"
