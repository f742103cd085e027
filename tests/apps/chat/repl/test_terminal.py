"""The prompt: keys, several lines, history and leaving."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prompt_toolkit")

from prompt_toolkit.history import InMemoryHistory  # noqa: E402
from prompt_toolkit.input import create_pipe_input  # noqa: E402
from prompt_toolkit.output import DummyOutput  # noqa: E402

from mlx_suite_apps.chat.data_folder import data_folder  # noqa: E402
from mlx_suite_apps.chat.repl.terminal import TerminalReader, file_history  # noqa: E402

ENTER, ESCAPE, CTRL_C, CTRL_D, UP = "\r", "\x1b", "\x03", "\x04", "\x1b[A"


@contextmanager
def prompt(history: Path | None = None) -> Iterator[tuple[TerminalReader, Any]]:
    with create_pipe_input() as keys:
        yield TerminalReader(history, lambda: "status", input=keys, output=DummyOutput()), keys


def typed(keys: str, default: str = "") -> str | None:
    with prompt() as (reader, pipe):
        pipe.send_text(keys)
        return reader.read(default)


def test_enter_sends_the_line() -> None:
    assert typed("Hello" + ENTER) == "Hello"
    assert typed("!" + ENTER, default="Hello") == "Hello!"


def test_a_backslash_or_escape_continues_on_the_next_line() -> None:
    assert typed("one\\" + ENTER + "two" + ESCAPE + ENTER + "three" + ENTER) == "one\ntwo\nthree"


def test_a_pasted_text_with_several_lines_is_one_input() -> None:
    assert typed("\x1b[200~one\n/two\nthree\x1b[201~" + ENTER) == "one\n/two\nthree"


def test_ctrl_c_clears_the_input_and_leaves_if_it_comes_twice() -> None:
    assert typed("wrong" + CTRL_C + "right" + ENTER) == "right"
    assert typed("wrong" + CTRL_C + "x" + CTRL_C + "right" + ENTER) == "right"
    assert typed("wrong" + CTRL_C + CTRL_C) is None
    assert typed(CTRL_C + CTRL_C) is None
    assert typed(CTRL_C + "right" + ENTER) == "right"
    assert typed(CTRL_D) is None


def test_the_history_is_kept_in_a_private_file_for_the_next_chat(tmp_path: Path) -> None:
    path = tmp_path / "data" / "chat-history"
    with prompt(path) as (reader, keys):
        keys.send_text("one\\" + ENTER + "two" + ENTER)
        assert reader.read("") == "one\ntwo"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert list(file_history(path).load_history_strings()) == ["one\ntwo"]


def test_a_folder_that_cannot_be_written_costs_only_the_history(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert isinstance(file_history(tmp_path / "file" / "chat-history"), InMemoryHistory)


def test_the_data_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setattr("sys.platform", "linux")
    assert data_folder() == tmp_path / ".local" / "share" / "mlx-suite"
    monkeypatch.setattr("sys.platform", "darwin")
    assert data_folder() == tmp_path / "Library" / "Application Support" / "mlx-suite"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert data_folder() == tmp_path / "xdg" / "mlx-suite"
