"""The file of conversations: kills, several programs at a time, permissions, and files that are refused."""

import multiprocessing
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mlx_suite.runtime.errors import UserError
from mlx_suite_apps.chat.store import database
from mlx_suite_apps.chat.store.database import default_path
from mlx_suite_apps.chat.store.store import Store

STREAM = """
import sys
import threading
import time
from pathlib import Path
from mlx_suite_apps.chat.store.store import Store
store = Store(Path(sys.argv[1]), save_seconds=0.002)
chat = store.create("story").id
question = store.add(chat, None, "user", "Tell me a story.")
reply = store.begin(chat, question.id, {"seed": 7})
print(chat, reply.message, flush=True)
for number in range(10**9):
    print(reply.add(f"{number:06} "), flush=True)
"""


def test_a_killed_program_loses_nothing_it_was_told_is_saved(tmp_path: Path) -> None:
    path = tmp_path / "chat.sqlite3"
    with Store(path) as reader:
        with subprocess.Popen([sys.executable, "-c", STREAM, path], stdout=subprocess.PIPE, text=True) as program:
            assert program.stdout is not None
            chat, message = map(int, program.stdout.readline().split())
            saved = 0
            while saved < 2000:
                saved = int(program.stdout.readline())
            assert reader.message(message).state == "writing"
            program.send_signal(signal.SIGKILL)
            # The last line may be torn; every complete one is a promise.
            saved = max(int(line) for line in program.stdout.read().split("\n")[:-1] or [str(saved)])
        assert program.returncode == -signal.SIGKILL

        shown = reader.path(chat)[-1]
        whole = "".join(f"{number:06} " for number in range(len(shown.content) // 7))
        assert (shown.id, shown.state, shown.facts) == (message, "stopped", {"seed": 7})
        assert shown.content == whole
        assert len(shown.content) >= saved >= 2000
        assert [hit.message for hit in reader.search("000285")] == [message]

    assert len(list(tmp_path.glob("chat.sqlite3-writer-*"))) == 1
    with Store(path) as later:
        assert later.message(message).content == whole
        reply = later.resume(message)
        reply.add("The end.")
        reply.finish()
        assert later.message(message).content == whole + "The end."
    assert [file.name for file in tmp_path.iterdir()] == ["chat.sqlite3"]


def write_many(path: Path, chat: int, name: str) -> None:
    with Store(path, save_seconds=0) as store:
        for number in range(20):
            reply = store.begin(chat, None)
            for piece in (name, " ", str(number)):
                reply.add(piece)
            reply.finish()


def test_two_programs_write_the_same_conversation(tmp_path: Path) -> None:
    path = tmp_path / "chat.sqlite3"
    with Store(path) as store:
        chat = store.create().id
        spawn = multiprocessing.get_context("spawn")
        programs = [spawn.Process(target=write_many, args=(path, chat, name)) for name in ("Anna", "Bert")]
        for program in programs:
            program.start()
        for program in programs:
            program.join()

        assert [program.exitcode for program in programs] == [0, 0]
        messages = store.tree(chat)[1]
        assert {message.state for message in messages} == {"complete"}
        assert sorted(message.content for message in messages) == sorted(
            f"{name} {number}" for name in ("Anna", "Bert") for number in range(20)
        )


def test_six_stores_create_the_file_at_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "chat.sqlite3"
    ready = threading.Barrier(6)

    def open_new() -> None:
        ready.wait()
        with Store(path) as store:
            store.create("mine")

    threads = [threading.Thread(target=open_new) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with Store(path) as store:
        assert [found.title for found in store.conversations()] == ["mine"] * 6


def test_a_store_waits_for_a_program_that_creates_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite itself does not wait when write-ahead logging is turned on."""
    path = tmp_path / "chat.sqlite3"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(time, "sleep", lambda _: other.execute("COMMIT"))

    with Store(path) as store:
        assert store.conversations() == ()
    assert not other.in_transaction
    other.close()


def test_a_program_that_keeps_the_file_busy_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.01)
    path = tmp_path / "chat.sqlite3"
    with Store(path, save_seconds=0) as store:
        chat = store.create().id
        reply = store.begin(chat, None)
        reply.add("Once")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UserError, match="Another program has been writing to the conversations"):
            reply.add(" upon")
        assert store.path(chat)[0].content == "Once"
        other.execute("ROLLBACK")
        other.close()

        assert reply.add(" a time") == 16
        assert store.path(chat)[0].content == "Once upon a time"


def test_the_file_and_its_folder_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "data" / "mlx-suite" / "chat.sqlite3"
    with Store(path) as store:
        store.create()
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        assert {"chat.sqlite3", "chat.sqlite3-wal"} <= set(modes)
        assert set(modes.values()) == {0o600}
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_usual_place_is_the_users_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_path() == Path("/data/mlx-suite/chat.sqlite3")
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setattr(sys, "platform", "linux")
    assert default_path() == tmp_path / ".local/share/mlx-suite/chat.sqlite3"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert default_path() == tmp_path / "Library/Application Support/mlx-suite/chat.sqlite3"

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    with Store() as store:
        assert store.file == tmp_path / "xdg/mlx-suite/chat.sqlite3"


# ---- files that are refused


def test_a_file_of_a_newer_version_is_refused_and_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "chat.sqlite3"
    Store(path).close()
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version = 2")
        newer.execute("PRAGMA journal_mode = DELETE")
    newer.close()
    before = path.read_bytes()

    with pytest.raises(UserError) as caught:
        Store(path)
    assert str(caught.value) == (
        "error: The file was written by a newer mlx-suite (schema 2; this one knows 1)\n"
        f"where: {path}\n"
        "fix:   pip install --upgrade mlx-suite, or choose another file"
    )
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_database_of_another_program_is_refused_and_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "places.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE bookmarks (url TEXT)")
    other.close()
    before = path.read_bytes()

    with pytest.raises(UserError, match="The file is a database of another program"):
        Store(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_and_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("These are my notes. " * 100)

    with pytest.raises(UserError, match="The file is not a SQLite database"):
        Store(path)
    assert path.read_text() == "These are my notes. " * 100


def test_an_index_that_this_python_cannot_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chat.sqlite3"
    Store(path).close()
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA writable_schema = ON")
        other.execute("UPDATE sqlite_master SET sql = replace(sql, 'fts5', 'fts0') WHERE name = 'search'")
    other.close()

    with pytest.raises(UserError) as caught:
        Store(path)
    assert caught.value.what.startswith("The file has an FTS5 search index, which this Python's SQLite")
    assert caught.value.fix == "use the Python that made the file, or choose another file"


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="A folder is where a file is needed"):
        Store(tmp_path)


def test_a_full_disk_is_an_error_and_saved_text_stays(tmp_path: Path) -> None:
    """A file size limit stands in for a full disk."""
    path = tmp_path / "chat.sqlite3"
    program = f"""
import resource, signal
from pathlib import Path
from mlx_suite.runtime.errors import UserError
from mlx_suite_apps.chat.store.store import Store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = Store(Path({str(path)!r}), save_seconds=0)
reply = store.begin(store.create().id, None)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    for number in range(100):
        reply.add("x" * 5_000)
except UserError as error:
    print(reply.saved)
    print(error.what)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    saved, what = done.stdout.splitlines()
    assert int(saved) >= 5_000
    assert what in ("The disk is full. What was saved before is untouched.", "The disk reported an error")
    with Store(path) as store:
        [message] = store.tree(1)[1]
        assert (message.content, message.state) == ("x" * int(saved), "stopped")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chat.sqlite3"
    Store(path).close()
    path.chmod(0o400)

    with pytest.raises(UserError, match="Writing here is not allowed"):
        Store(path)
