"""Journals and locks: what survives a kill, a full disk and a second process."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.journal import Journal, JournalReader, read_journal, read_lines
from mlx_suite.runtime.lock import LOCK_NAME, folder_lock

ROWS = [{"id": 0, "text": "a\nb"}, {"id": 1, "text": "\u00e9\u4e16\U0001f30d"}, {"id": 2}]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
json_objects = st.dictionaries(st.text(), json_values, max_size=4)
any_folder = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(path: Path, rows: list[dict[str, object]]) -> None:
    path.unlink(missing_ok=True)
    with Journal(path) as journal:
        for row in rows:
            journal.append(row)


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "rows.jsonl"
    write(path, ROWS)

    with Journal(path) as journal:
        assert journal.count == 3
        assert list(journal.records()) == ROWS
    assert path.read_text().splitlines()[1] == '{"id": 1, "text": "\u00e9\u4e16\U0001f30d"}'


@any_folder
@given(rows=st.lists(json_objects, max_size=4))
def test_any_json_object_is_read_as_it_was_written(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    write(tmp_path / "rows.jsonl", rows)

    assert list(read_journal(tmp_path / "rows.jsonl")) == rows


@any_folder
@given(kept=st.lists(json_objects, max_size=3), torn=json_objects, data=st.data())
def test_a_last_line_torn_at_any_byte_is_truncated(
    tmp_path: Path, kept: list[dict[str, object]], torn: dict[str, object], data: st.DataObject
) -> None:
    path = tmp_path / "rows.jsonl"
    write(path, kept)
    whole = path.stat().st_size
    write(path, [*kept, torn])
    line_end = path.stat().st_size - 1
    os.truncate(path, data.draw(st.integers(whole, line_end), label="size"))
    size = path.stat().st_size

    with Journal(path) as journal:
        # A record that lacks only its line end is kept.
        expected = [*kept, torn] if size == line_end else kept
        assert list(journal.records()) == expected
        assert journal.count == len(expected)
        journal.append({"next": True})

    assert list(read_journal(path)) == [*expected, {"next": True}]


def test_a_torn_line_of_every_length_is_truncated(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write(path, ROWS[:1])
    whole = path.read_bytes()
    line = json.dumps(ROWS[1], ensure_ascii=False).encode()

    for length in range(len(line)):
        path.write_bytes(whole + line[:length])
        with Journal(path) as journal:
            assert journal.count == 1
        assert path.read_bytes() == whole


def test_zeros_after_a_power_cut_are_truncated(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write(path, ROWS)
    whole = path.read_bytes()

    for tail in (b"\0" * 4096, b'{"id": 3, "te' + b"\0" * 100):
        path.write_bytes(whole + tail)
        with Journal(path) as journal:
            assert journal.count == 3
        assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"id": 1, "te', "Unterminated string"),
        (b"[1, 2]", "it is a list"),
        (b'{"id": \xff}', "utf-8"),
        (b"\0\0\0\0", "Expecting value"),
    ],
)
def test_a_corrupt_line_in_the_middle_is_reported_and_the_file_is_unchanged(
    tmp_path: Path, line: bytes, problem: str
) -> None:
    path = tmp_path / "rows.jsonl"
    content = b'{"id": 0}\n' + line + b'\n{"id": 2}\n'
    path.write_bytes(content)

    with pytest.raises(UserError) as caught:
        Journal(path)

    assert caught.value.where == f"{path}:2"
    assert caught.value.what.startswith("Line 2 is not a JSON object")
    assert problem in caught.value.what
    assert path.read_bytes() == content


def test_a_file_that_is_not_a_journal_is_never_truncated(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary")

    with pytest.raises(UserError, match="Line 1 is not a JSON object"):
        Journal(path)

    assert path.read_text() == "dear diary"


def test_blank_lines_are_not_records(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": 0}\n\n{"id": 1}\n')

    with Journal(path) as journal:
        assert journal.count == 2
    assert list(read_journal(path)) == [{"id": 0}, {"id": 1}]


def test_reading_a_missing_journal_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        list(read_journal(tmp_path / "no.jsonl"))


def test_a_lone_surrogate_is_written_as_an_escape(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", [{"text": "\ud83d"}])

    assert (tmp_path / "rows.jsonl").read_bytes() == b'{"text": "\\ud83d"}\n'
    assert list(read_journal(tmp_path / "rows.jsonl")) == [{"text": "\ud83d"}]


def test_nan_and_inf_are_rejected_before_anything_is_written(tmp_path: Path) -> None:
    with Journal(tmp_path / "rows.jsonl") as journal:
        with pytest.raises(ValueError, match="Out of range float"):
            journal.append({"loss": float("nan")})
        assert journal.count == 0
    assert (tmp_path / "rows.jsonl").read_bytes() == b""


def test_a_killed_process_loses_no_complete_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    program = f"""
import os
from mlx_suite.runtime.journal import Journal
journal = Journal({str(path)!r}, sync_seconds=3600)
for number in range(100):
    journal.append({{"id": number}})
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", program])

    assert done.returncode == -signal.SIGKILL
    with Journal(path) as journal:
        assert [row["id"] for row in journal.records()] == list(range(100))


def test_a_disk_that_fills_up_within_a_line_keeps_earlier_lines(tmp_path: Path) -> None:
    """A file size limit in the middle of a line stands in for a full disk."""
    path = tmp_path / "rows.jsonl"
    program = f"""
import resource, signal
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (250, 250))
journal = Journal({str(path)!r})
try:
    for number in range(100):
        journal.append({{"text": "x" * 90}})
except UserError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[:2] == [
        "error: The file may not grow any larger. 2 finished lines are kept.",
        f"where: {path}",
    ]
    assert path.read_bytes() == 2 * (b'{"text": "' + b"x" * 90 + b'"}\n')


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_one_error_and_the_next_run_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl"
    with open("/dev/full", "wb", buffering=0) as full, Journal(path) as journal:
        journal.append({"id": 0})
        real_write = os.write
        monkeypatch.setattr(os, "write", lambda handle, data: real_write(full.fileno(), data))
        with pytest.raises(UserError) as caught:
            journal.append({"id": 1})
        monkeypatch.undo()
        journal.append({"id": 1})

    assert caught.value.what == "The disk is full. 1 finished line is kept."
    assert list(read_journal(path)) == [{"id": 0}, {"id": 1}]


def add(path: Path, text: str) -> None:
    with path.open("ab") as file:
        file.write(text.encode())


def test_a_reader_reads_each_line_once_and_a_torn_one_when_it_is_complete(tmp_path: Path) -> None:
    reader = JournalReader(tmp_path / "rows.jsonl")
    assert list(reader.new_records()) == []
    add(reader.path, '{"a": 1}\n{"b"')
    assert list(reader.new_records()) == [(1, {"a": 1})]
    assert list(reader.new_records()) == []
    add(reader.path, ': "é"}')
    assert list(reader.new_records()) == []
    add(reader.path, '\n{"c": 3}\n')
    assert list(reader.new_records()) == [(2, {"b": "é"}), (3, {"c": 3})]


def test_a_reader_that_stops_midway_continues_after_its_last_line(tmp_path: Path) -> None:
    reader = JournalReader(tmp_path / "rows.jsonl")
    add(reader.path, '{"a": 1}\n{"b": 2}\n[3]\n')
    assert next(reader.new_records()) == (1, {"a": 1})
    assert next(reader.new_records()) == (2, {"b": 2})
    with pytest.raises(UserError, match="Line 3 is not a JSON object"):
        next(reader.new_records())


def test_a_second_writer_of_a_journal_is_an_error(tmp_path: Path) -> None:
    with Journal(tmp_path / "rows.jsonl") as journal:
        journal.append({"id": 0})
        with pytest.raises(UserError, match="Another run is using it"):
            Journal(tmp_path / "rows.jsonl")
        assert list(read_journal(tmp_path / "rows.jsonl")) == [{"id": 0}]

    Journal(tmp_path / "rows.jsonl").close()


def test_a_second_run_in_a_folder_is_an_error(tmp_path: Path) -> None:
    program = f"""
import sys
from mlx_suite.runtime.lock import LOCK_NAME, folder_lock
with folder_lock({str(tmp_path / "run")!r}):
    print("locked", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(UserError) as caught, folder_lock(tmp_path / "run"):
            pass
        other.kill()

    assert str(caught.value) == (
        f"error: Another run is using it (process {other.pid})\n"
        f"where: {tmp_path / 'run'}\n"
        "fix:   wait for that run, stop it, or choose another folder"
    )
    assert (tmp_path / "run" / LOCK_NAME).read_text() == f"{other.pid}\n"  # a killed run leaves its number
    with folder_lock(tmp_path / "run"):
        pass
    assert (tmp_path / "run" / LOCK_NAME).read_text() == ""


def test_locking_on_a_full_disk_is_a_user_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(UserError) as caught, folder_lock(tmp_path / "run"):
        pass
    assert caught.value.what == "The disk is full. What was there before is untouched."
    assert caught.value.where == str(tmp_path / "run")


def test_a_line_of_another_program_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"number": 1}\n\n{"numbre": 2}\n')
    found = read_lines(path, lambda record: record["number"])
    assert next(found) == 1
    with pytest.raises(UserError) as caught:
        next(found)
    assert caught.value.where == f"{path}:3"


def test_lines_that_cannot_be_read_are_skipped_and_numbered_on_request(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"number": 1}\nodd\n{"other": 2}\n[3]\n{"number": 4}\n{"number": 5, "te')
    bad: list[int] = []

    assert list(read_lines(path, lambda record: record["number"], bad)) == [1, 4]
    assert bad == [2, 3, 4]
