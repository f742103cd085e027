"""Atomic writes, and disk errors as user errors."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlx_suite.runtime import files
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import replace_folder, staged_folder, write_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_and_bytes_are_written_and_missing_folders_created(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "text", "gr\u00fc\u00dfe\n")
    write_atomically(tmp_path / "a" / "bytes", b"\0\1")

    assert (tmp_path / "a" / "text").read_bytes() == b"gr\xc3\xbc\xc3\x9fe\n"
    assert (tmp_path / "a" / "bytes").read_bytes() == b"\0\1"
    assert names(tmp_path / "a") == ["bytes", "text"]


def test_a_full_disk_keeps_the_old_file_and_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.json"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", full_disk)

    with pytest.raises(UserError) as caught:
        write_atomically(path, "new")

    assert str(caught.value) == (
        "error: The disk is full. What was there before is untouched.\n"
        f"where: {path}\n"
        "fix:   free some space, then run the same command again"
    )
    assert path.read_text() == "old"
    assert names(tmp_path) == ["config.json"]


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_kill_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_text("old")
    program = f"""
import os
from mlx_suite.runtime.files import write_atomically
os.fsync = lambda handle: os.kill(os.getpid(), 9)
write_atomically({str(path)!r}, "new")
"""
    done = subprocess.run([sys.executable, "-c", program])

    assert done.returncode == -9
    assert path.read_text() == "old"


def test_a_file_instead_of_a_folder_and_a_folder_instead_of_a_file_are_user_errors(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(UserError, match="A file is where a folder is needed"):
        write_atomically(tmp_path / "file" / "inside", "x")
    with pytest.raises(UserError, match="A folder is where a file is needed"):
        write_atomically(tmp_path, "x")


def test_other_errors_pass_through() -> None:
    with pytest.raises(ConnectionResetError), files.disk_errors(Path("x")):
        raise ConnectionResetError(errno.ECONNRESET, "the other side is gone")
    with pytest.raises(RuntimeError, match="shape"), files.disk_errors(Path("x")):
        raise RuntimeError("shape mismatch")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that makes no files")
@pytest.mark.parametrize(
    "make", [lambda path: write_atomically(path, ""), lambda path: staged_folder(path).__enter__()]
)
def test_a_place_where_nothing_can_be_created_is_a_user_error(make: Callable[[Path], object]) -> None:
    with pytest.raises(UserError) as caught:
        make(Path("/proc/run"))

    assert str(caught.value) == (
        "error: The folder does not exist, or no file can be created in it. What was there before is untouched.\n"
        "where: /proc/run\n"
        "fix:   choose another folder"
    )


def test_mlxs_error_for_a_full_disk_is_a_disk_error() -> None:
    with pytest.raises(UserError, match="The disk is full"), files.disk_errors(Path("x")):
        raise RuntimeError("[write] Unable to write 8 bytes to file.")


def test_a_staged_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    final = tmp_path / "checkpoints" / "last"

    with staged_folder(final) as folder:
        (folder / "weights").write_text("1")
        (folder / "inner").mkdir()
        (folder / "inner" / "state").write_text("2")
        assert not final.exists()

    assert names(final) == ["inner", "weights"]
    assert names(final.parent) == ["last"]


def test_a_staged_folder_replaces_an_older_one(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with staged_folder(tmp_path / "last") as folder:
            (folder / content).write_text("")

    assert names(tmp_path / "last") == ["new"]
    assert names(tmp_path) == ["last"]


def test_a_failed_block_leaves_what_was_there(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "last") as folder:
        (folder / "good").write_text("")

    with pytest.raises(UserError, match="The disk is full"), staged_folder(tmp_path / "last"):
        full_disk()

    assert names(tmp_path / "last") == ["good"]
    assert names(tmp_path) == ["last"]


def test_an_error_about_another_file_does_not_name_the_folder(
    tmp_path: Path,
) -> None:
    with pytest.raises(PermissionError), staged_folder(tmp_path / "last"):
        raise PermissionError(errno.EACCES, "cannot read the source")


def test_the_next_run_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    program = f"""
import os
from mlx_suite.runtime.files import staged_folder
with staged_folder({str(tmp_path / "last")!r}) as folder:
    (folder / "half").write_text("")
    os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", program])
    assert names(tmp_path) == [".last.partial"]

    with staged_folder(tmp_path / "last") as folder:
        (folder / "whole").write_text("")

    assert names(tmp_path / "last") == ["whole"]
    assert names(tmp_path) == ["last"]


def test_replacing_works_without_an_atomic_swap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    for name in ("new", "final", ".final.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"of {name}").write_text("")

    replace_folder(tmp_path / "new", tmp_path / "final")

    assert names(tmp_path / "final") == ["of new"]
    assert names(tmp_path) == ["final"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks for Linux's own swap")
def test_linux_swaps_two_folders_atomically(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"of {name}").write_text("")

    if not files._exchange(tmp_path / "one", tmp_path / "other"):
        pytest.skip("this file system cannot swap")

    assert names(tmp_path / "one") == ["of other"]
