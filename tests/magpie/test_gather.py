"""Merging the draft files of several workers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlx_suite.magpie.gather import gather_drafts
from mlx_suite.runtime.errors import UserError


def test_the_draft_files_of_other_workers_are_appended_and_deleted(tmp_path: Path) -> None:
    (tmp_path / "drafts.jsonl").write_text('{"index": 0}\n{"index": 2')
    (tmp_path / "drafts-1.jsonl").write_text('{"index": 1}\n{"ind')
    (tmp_path / "drafts-2.jsonl").write_text('{"index": 2}')
    gather_drafts(tmp_path)

    # Torn lines are cut off; one that lacks only its newline is kept.
    assert (tmp_path / "drafts.jsonl").read_text() == '{"index": 0}\n{"index": 1}\n{"index": 2}\n'
    assert os.listdir(tmp_path) == ["drafts.jsonl"]


def test_a_folder_with_one_draft_file_is_left_alone(tmp_path: Path) -> None:
    gather_drafts(tmp_path)
    assert os.listdir(tmp_path) == []
    (tmp_path / "drafts.jsonl").write_text('{"index"')
    gather_drafts(tmp_path)
    assert (tmp_path / "drafts.jsonl").read_text() == '{"index"'


def test_a_file_that_is_still_being_written_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "drafts-1.jsonl"
    path.write_text('{"index": 1}\n')
    hold = "import fcntl, sys; file = open(sys.argv[1], 'r+'); fcntl.flock(file, fcntl.LOCK_EX); print(); input()"
    with subprocess.Popen(
        [sys.executable, "-u", "-c", hold, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(UserError, match="Another run is using it"):
            gather_drafts(tmp_path)
        other.communicate(b"\n")
    assert path.read_text() == '{"index": 1}\n'
