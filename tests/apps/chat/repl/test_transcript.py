"""Conversations in files that finetune reads."""

import json
from pathlib import Path

import pytest

from mlx_suite.data.dataset import read_dataset
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import Message
from mlx_suite_apps.chat.repl.transcript import load_messages, save_messages

TALK = (
    Message("system", "Be brief."),
    Message("user", "Grüße?\n\nNoch eine Zeile."),
    Message("assistant", "Hallo 🦙", trained=False),
    Message("user", "And?"),
    Message("assistant", "Bye."),
)


def test_a_saved_conversation_is_read_back_and_by_finetune(tmp_path: Path) -> None:
    path = tmp_path / "new" / "talk.json"
    assert save_messages(path, TALK) == ()

    assert load_messages(path) == TALK
    [example] = read_dataset(path).train
    assert example.messages == TALK  # with the stopped response, which is not trained on
    assert json.loads(path.read_text(encoding="utf-8"))["messages"][2] == {
        "role": "assistant",
        "content": "Hallo 🦙",
        "weight": 0,
    }


def test_a_disk_error_while_saving_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "talk.json"
    save_messages(path, TALK)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="The disk is full"):
        save_messages(path, TALK[:3])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_saving_says_what_finetune_cannot_read(tmp_path: Path) -> None:
    [problem] = save_messages(tmp_path / "talk.json", [Message("user", "Which one?"), Message("assistant", "None")])
    assert problem == "turn 2, \"content\" is 'None', which programs write for a missing value; expected a response"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "The file is empty"),
        ('{"messages": []}', '"messages" is empty'),
        ('{"messages": [{"role": "user", "content": "Hi"}]}', "there is no assistant turn"),
        ('{"text": "plain"}', "expected messages"),
        ('{"messages": [', "Expecting value"),
        ('{"text": "a"}\n{"text": "b"}\n', "The file has 2 conversations; expected one"),
    ],
)
def test_a_file_that_is_not_one_conversation_is_refused(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "talk.json"
    path.write_text(content)
    with pytest.raises(UserError) as refused:
        load_messages(path)
    assert problem in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file or directory"):
        load_messages(tmp_path / "none.json")
