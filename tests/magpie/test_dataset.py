"""Folders that a power failure, a full disk or a person has been at."""

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
    """A copy of 30 rows."""
    for name in FILES:
        (tmp_path / name).write_bytes((undisturbed / name).read_bytes())
    return tmp_path


def keep(path: Path, wanted: Callable[[int], bool]) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for place, line in enumerate(lines) if wanted(place)))


def test_rows_lost_in_a_power_failure_are_made_again_in_their_place(
    checkpoint: Loaded, folder: Path, same_rows: SameRows
) -> None:
    # The two files reach the disk at different times: one has lost more than the other.
    keep(folder / "accepted.jsonl", lambda place: place < 20)
    keep(folder / "rejected.jsonl", lambda place: place < 35)
    summary = checkpoint.make(folder)

    same_rows(folder)
    assert summary.work is None  # the drafts were all there


def test_drafts_lost_in_a_power_failure_are_made_again(checkpoint: Loaded, folder: Path, same_rows: SameRows) -> None:
    log = folder / "drafts.jsonl"
    keep(log, lambda place: place not in (7, 8, 50))
    kept = log.read_bytes()
    summary = checkpoint.make(folder)

    same_rows(folder)
    assert summary.work is not None
    assert log.read_bytes().startswith(kept)
    # Beside the three, at most the rows of one batch, before it is known what they are duplicates of.
    made = log.read_bytes().count(b"\n") - kept.count(b"\n")
    assert 3 <= made <= 3 + 8


def test_a_line_taken_out_comes_back(checkpoint: Loaded, folder: Path, same_rows: SameRows) -> None:
    keep(folder / "accepted.jsonl", lambda place: place not in (3, 11))
    checkpoint.make(folder)

    same_rows(folder)


def test_a_torn_line_is_made_again(checkpoint: Loaded, folder: Path, same_rows: SameRows) -> None:
    path = folder / "accepted.jsonl"
    os.truncate(path, path.stat().st_size - 40)
    checkpoint.make(folder)

    same_rows(folder)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"index": 4}', "Line 31 is no row of this program"),
        ('{"index": "x", "messages": []}', "Line 31 is no row of this program"),
        ("[1]", "Line 31 is not a JSON object: it is a list"),
    ],
)
def test_a_foreign_line_is_named(checkpoint: Loaded, folder: Path, line: str, problem: str) -> None:
    with (folder / "accepted.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError) as caught:
        checkpoint.make(folder, count=40)

    assert caught.value.what == problem
    assert caught.value.where == f"{folder / 'accepted.jsonl'}:31"


def test_a_repeated_row_is_named(checkpoint: Loaded, folder: Path) -> None:
    path = folder / "rejected.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines, lines[0]]))
    with pytest.raises(UserError, match=f"Line {len(lines) + 1} repeats a row"):
        checkpoint.make(folder)


def test_a_full_disk_keeps_what_is_written_and_the_run_goes_on_later(
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
def test_an_edited_row_is_named(checkpoint: Loaded, folder: Path, same_rows: SameRows, edited: str) -> None:
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

    assert caught.value.what == "Line 5 does not say what the model wrote"
    assert caught.value.where == f"{path}:5"
    assert caught.value.fix == "take that line out: it is made again from drafts.jsonl"
    keep(path, lambda place: place != 4)
    checkpoint.make(folder)
    same_rows(folder)


def test_fields_that_others_have_added_stay(checkpoint: Loaded, folder: Path) -> None:
    path = folder / "accepted.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = json.dumps({**json.loads(lines[2]), "note": "mine"}).encode() + b"\n"
    path.write_bytes(b"".join(lines))
    checkpoint.make(folder, count=31)

    assert path.read_bytes().splitlines(keepends=True)[:30] == lines


def test_rows_without_the_log_they_were_made_of_are_left_alone(checkpoint: Loaded, folder: Path) -> None:
    before = (folder / "accepted.jsonl").read_bytes()
    (folder / "drafts.jsonl").unlink()
    with pytest.raises(UserError, match="no drafts.jsonl that they were made of"):
        checkpoint.make(folder)

    assert (folder / "accepted.jsonl").read_bytes() == before
