"""Folders damaged by a power failure, a full disk, or a person."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mlx_suite.runtime.errors import UserError
from tests.magpie.conftest import FILES, Loaded

SameRows = Callable[[Path], None]


@pytest.fixture
def folder(undisturbed: Path, tmp_path: Path) -> Path:
    """A copy of a folder with 30 rows."""
    for name in FILES:
        (tmp_path / name).write_bytes((undisturbed / name).read_bytes())
    return tmp_path


def keep(path: Path, is_kept: Callable[[int], bool]) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for place, line in enumerate(lines) if is_kept(place)))


def test_the_folder_of_a_model_is_refused_and_not_touched(checkpoint: Loaded, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="The folder holds a model: there is a config.json"):
        checkpoint.make(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_rows_lost_in_a_power_failure_are_rebuilt_from_the_drafts(
    checkpoint: Loaded, folder: Path, same_rows: SameRows
) -> None:
    # The two files are synced at different times, so one has lost more than the other.
    keep(folder / "accepted.jsonl", lambda place: place < 20)
    keep(folder / "rejected.jsonl", lambda place: place < 35)
    summary = checkpoint.make(folder)

    same_rows(folder)
    assert summary.work is None  # all drafts were there


def test_drafts_lost_in_a_power_failure_are_generated_again(
    checkpoint: Loaded, folder: Path, same_rows: SameRows
) -> None:
    log = folder / "drafts.jsonl"
    keep(log, lambda place: place not in (7, 8, 50))
    kept = log.read_bytes()
    summary = checkpoint.make(folder)

    same_rows(folder)
    assert summary.work is not None
    assert log.read_bytes().startswith(kept)
    # At most one batch in addition to the three: rows generated before they were known to be duplicates.
    made = log.read_bytes().count(b"\n") - kept.count(b"\n")
    assert 3 <= made <= 3 + 8


def test_a_deleted_line_is_rebuilt(checkpoint: Loaded, folder: Path, same_rows: SameRows) -> None:
    keep(folder / "accepted.jsonl", lambda place: place not in (3, 11))
    checkpoint.make(folder)

    same_rows(folder)


def test_a_torn_line_is_rebuilt(checkpoint: Loaded, folder: Path, same_rows: SameRows) -> None:
    path = folder / "accepted.jsonl"
    os.truncate(path, path.stat().st_size - 40)
    checkpoint.make(folder)

    same_rows(folder)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"index": 4}', "Line 31 is not a Magpie row"),
        ('{"index": "x", "messages": []}', "Line 31 is not a Magpie row"),
        ("[1]", "Line 31 is not a JSON object: it is a list"),
    ],
)
def test_a_foreign_line_is_reported(checkpoint: Loaded, folder: Path, line: str, problem: str) -> None:
    with (folder / "accepted.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError) as caught:
        checkpoint.make(folder, count=40)

    assert caught.value.what == problem
    assert caught.value.where == f"{folder / 'accepted.jsonl'}:31"


def test_a_repeated_row_is_reported(checkpoint: Loaded, folder: Path) -> None:
    path = folder / "rejected.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines, lines[0]]))
    with pytest.raises(UserError, match=f"Line {len(lines) + 1} repeats a row"):
        checkpoint.make(folder)


def test_after_a_full_disk_the_run_resumes_from_what_was_written(
    checkpoint: Loaded, tmp_path: Path, same_rows: SameRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, room = os.write, [9]

    def full(handle: int, data: bytes) -> int:
        if data.startswith(b'{"id"'):
            room[0] -= 1
            if room[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(handle, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(UserError) as caught:
            checkpoint.make(tmp_path)
    assert caught.value.what.startswith("The disk is full.")
    assert "kept" in caught.value.what
    assert "run the same command again" in caught.value.fix
    total = sum(len((tmp_path / name).read_bytes().splitlines()) for name in ("accepted.jsonl", "rejected.jsonl"))
    assert total == 9

    checkpoint.make(tmp_path)
    same_rows(tmp_path)


@pytest.mark.parametrize("edited", ["messages", "tags", "seed"])
def test_an_edited_row_is_reported(checkpoint: Loaded, folder: Path, same_rows: SameRows, edited: str) -> None:
    path = folder / "accepted.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    record = json.loads(lines[4])
    if edited == "messages":
        record["messages"][1]["content"] = "A better answer."
    elif edited == "tags":
        record["tags"]["category"] = "another"
    else:
        del record["seed"]
    path.write_bytes(b"".join([*lines[:4], json.dumps(record).encode() + b"\n", *lines[5:]]))
    with pytest.raises(UserError) as caught:
        checkpoint.make(folder)

    assert caught.value.what == "Line 5 does not match what the model wrote"
    assert caught.value.where == f"{path}:5"
    assert caught.value.fix == "delete that line: it will be rebuilt from drafts.jsonl"
    keep(path, lambda place: place != 4)
    checkpoint.make(folder)
    same_rows(folder)


def test_fields_added_by_others_are_kept(checkpoint: Loaded, folder: Path) -> None:
    path = folder / "accepted.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = json.dumps({**json.loads(lines[2]), "note": "mine"}).encode() + b"\n"
    path.write_bytes(b"".join(lines))
    checkpoint.make(folder, count=31)

    assert path.read_bytes().splitlines(keepends=True)[:30] == lines


def test_rows_without_drafts_are_left_alone(checkpoint: Loaded, folder: Path) -> None:
    before = (folder / "accepted.jsonl").read_bytes()
    (folder / "drafts.jsonl").unlink()
    with pytest.raises(UserError, match="not the drafts.jsonl they were made with"):
        checkpoint.make(folder)

    assert (folder / "accepted.jsonl").read_bytes() == before
