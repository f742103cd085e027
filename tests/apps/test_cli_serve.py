"""`mlx-suite serve` from the command line: its first line, an answer, Ctrl-C, and mistakes."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlx_suite_apps.chat.api.settings import ServerSettings
from mlx_suite_apps.chat.server import limits_of
from mlx_suite_apps.cli.main import main

Serve = Callable[..., tuple[int, str]]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Serve:
    """Runs the program with flags; returns its exit code and stderr."""

    def run(*flags: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["mlx-suite", "serve", *flags])
        with pytest.raises(SystemExit) as left:
            main()
        return int(str(left.value.code)), capsys.readouterr().err

    return run


def test_a_server_answers_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mlx_suite_apps.cli.main", "serve", "tiny-llama3", "--port", "0"]
    server = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "XDG_DATA_HOME": str(tmp_path)}
    )
    try:
        assert server.stderr is not None
        line = next(text for text in server.stderr if "http" in text)
        found = re.fullmatch(r"tiny-llama3 on (http://localhost:\d+)   \(Ctrl-C stops the server\)\n", line)
        assert found
        answer = _post(
            f"{found[1]}/v1/chat/completions",
            {
                "messages": [{"role": "user", "content": "Which month comes before May?"}],
                "model": "tiny-llama3",
                "temperature": 0,
            },
        )
        assert answer["choices"][0]["message"]["content"] == "The month before May is April."
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 0
        assert server.stderr.read() == ""
    finally:
        server.kill()


def test_a_port_that_is_taken_is_named(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, error = serve("tiny-llama3", "--port", str(port))
    assert code == 2
    assert f"The server cannot listen on 127.0.0.1 port {port}: Address already in use" in error
    assert "--port 0 takes a free one" in error


def test_all_invalid_flags_are_named_at_once(serve: Serve) -> None:
    code, error = serve("tiny-llama3", "--slots", "0", "--memory", "much", "--seconds", "-1")
    assert code == 2
    assert "3 flags are invalid" in error
    assert "--memory is much: expected a size such as 8GB" in error


@pytest.mark.parametrize("flag", ["mine", "=runs/mine", "mine="])
def test_an_adapter_without_name_or_folder_is_refused(flag: str, serve: Serve) -> None:
    code, error = serve("tiny-llama3", "--adapter", flag)
    assert code == 2
    assert "write NAME=RUN: --adapter mine=runs/mine" in error


def test_a_server_that_others_can_reach_needs_a_key(serve: Serve) -> None:
    code, error = serve("tiny-llama3", "--host", "0.0.0.0", "--port", "0")
    assert code == 2
    assert "--api-key" in error


def test_caches_get_the_memory_that_the_flag_states() -> None:
    limits = limits_of(ServerSettings(memory="8GB", slots=4, queue=9))
    assert (limits.kv_bytes, limits.prefix_bytes) == (6_000_000_000, 2_000_000_000)
    assert (limits.slots, limits.waiting) == (4, 9)


def _post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)
