"""Servers are started on a free port with a fast BLAS, and nothing of them is left when they are stopped."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from mlx_suite.runtime.blas import Blas
from mlx_suite_apps.bench import serving_peers
from mlx_suite_apps.bench.serving_peers import (
    Peer,
    ServerDown,
    _fast_blas,
    ended_by_sigterm,
    mlx_lm,
    rapid_mlx,
    start,
    vllm_mlx,
)
from tests.apps.bench import scripted_chat_server

SCRIPT = scripted_chat_server.__file__


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_a_server_that_ignores_the_request_to_stop_is_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_peers, "ENDING", 0.2)
    code = (
        "import signal, subprocess, sys, runpy\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        "print('child', child.pid, flush=True)\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    code = code.replace("runpy.run_path", f"sys.argv[0] = {SCRIPT!r}; runpy.run_path")

    def command(folder: Path, port: int) -> list[str]:
        return [sys.executable, "-c", code, str(port), "good", str(tmp_path / "diary")]

    server = start(Peer(name="stubborn", command=command), tmp_path, tmp_path / "log")
    child = int((tmp_path / "log").read_text().split()[1])
    assert server.endpoint.model == "scripted"
    assert server.alive()
    os.kill(child, 0)  # it runs
    server.stop()
    assert not server.alive()
    for _ in range(500):
        if ended(child):
            return
        time.sleep(0.01)
    raise AssertionError("the child runs on")


def ended(process: int) -> bool:
    """Whether a process is gone, or a zombie that init has not collected yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def test_sigterm_ends_the_benchmark_as_an_exception_so_that_servers_are_stopped() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught, ended_by_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)  # the signal arrives within it
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_server_without_an_answer_is_down_and_stopped(tmp_path: Path) -> None:
    def command(folder: Path, port: int) -> list[str]:
        return [sys.executable, "-c", "import time; print('loading', flush=True); time.sleep(600)"]

    with pytest.raises(ServerDown, match="loading"):
        start(Peer(name="slow", command=command), tmp_path, tmp_path / "log", patience=2.0)


def test_a_server_whose_first_request_fails_is_down(tmp_path: Path) -> None:
    def command(folder: Path, port: int) -> list[str]:
        return [sys.executable, SCRIPT, str(port), "early", str(tmp_path / "diary")]

    with pytest.raises(ServerDown, match="the stream ended early; it wrote nothing"):
        start(Peer(name="early", command=command), tmp_path, tmp_path / "log")


def test_mkl_is_preloaded_after_its_thread_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mkl = tmp_path / "libmkl_rt.so.3"
    monkeypatch.setattr(serving_peers, "load_blas", lambda: Blas(name="MKL", path=mkl))
    assert _fast_blas() == {
        "LD_PRELOAD": str(mkl),
        "MKL_INTERFACE_LAYER": "LP64",
        "MKL_THREADING_LAYER": "GNU",
    }
    (tmp_path / "libiomp5.so").touch()
    assert _fast_blas()["LD_PRELOAD"] == f"{tmp_path / 'libiomp5.so'} {mkl}"
    assert _fast_blas()["MKL_THREADING_LAYER"] == "INTEL"
    monkeypatch.setattr(serving_peers, "load_blas", lambda: Blas(name="Accelerate"))
    assert _fast_blas() == {}


def test_the_programs_of_other_environments_are_next_to_their_python() -> None:
    folder = Path("models/a")
    assert rapid_mlx("x/bin/python").command(folder, 7)[:2] == ["x/bin/rapid-mlx", "serve"]
    assert vllm_mlx("x/bin/python").command(folder, 7)[-3:] == ["--port", "7", "--continuous-batching"]
    assert mlx_lm("x/bin/python").command(folder, 7)[0] == "x/bin/python"
