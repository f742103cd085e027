"""Several workers fill a folder with the rows of a single process, even if they are killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.magpie.conftest import Loaded
from tests.magpie.processes import REPOSITORY, Run, complete

SameRows = Callable[[Path], None]
STEERED = {"count": 60, "topics": ["cats", "dogs"], "quotas": ["category:v=0.4,Q=0.3"], "turns": 2}
"""Settings whose rows depend on earlier decisions."""
GONE = """\
error: Process {rank} of this run's {size} is gone
       - every finished row is kept
where: {folder}
fix:   look for its own error message, or check its machine. The same command resumes with any number of processes
"""


def steered(checkpoint: Loaded, folder: Path) -> dict[str, bytes]:
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in STEERED.items()}
    checkpoint.make(folder, **settings)
    return rows(folder)


def rows(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("accepted.jsonl", "rejected.jsonl")}


def numbers(path: Path) -> list[int]:
    """Row numbers in a draft file."""
    return [json.loads(line)["index"] for line in path.read_text().splitlines()]


def test_two_workers_generate_the_rows_of_one(checkpoint: Loaded, tmp_path: Path, same_rows: SameRows) -> None:
    complete(checkpoint.folder, tmp_path / "rows", 2)

    same_rows(tmp_path / "rows")
    even, odd = (numbers(tmp_path / "rows" / name) for name in ("drafts.jsonl", "drafts-1.jsonl"))
    assert {index % 2 for index in even} == {0}
    assert {index % 2 for index in odd} == {1}


def test_an_error_in_all_workers_is_reported_once(checkpoint: Loaded, tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "manifest.json").write_text("{}")
    (first, stderr), second = Run(checkpoint.folder, tmp_path / "rows", 2).ended()

    assert (first, stderr.splitlines()[0]) == (
        2,
        "error: manifest.json does not record the settings of this run: it was not written by this command",
    )
    assert second == (2, "")


@pytest.mark.slow
def test_an_error_in_one_worker_is_reported_by_that_worker(checkpoint: Loaded, tmp_path: Path) -> None:
    first, (second, stderr) = Run(checkpoint.folder, tmp_path / "rows", 2, {}, {"memory": "1KB"}).ended()

    assert first == (2, "")
    assert (second, stderr.splitlines()[0][:32]) == (2, "error: 1.00 KB is not enough: th")


@pytest.mark.slow
def test_workers_with_other_settings_are_refused(checkpoint: Loaded, tmp_path: Path) -> None:
    (first, stderr), *others = Run(checkpoint.folder, tmp_path / "rows", 3, {}, {}, {"seed": 1}).ended()

    assert (first, stderr.splitlines()[0]) == (2, "error: Process 2 would generate different rows from process 0")
    assert others == [(2, "")] * 2


@pytest.mark.slow
def test_a_lost_worker_costs_its_unfinished_rows_and_any_number_resumes(checkpoint: Loaded, tmp_path: Path) -> None:
    expected, folder = steered(checkpoint, tmp_path / "alone"), tmp_path / "rows"
    for size in (2, 3):
        run = Run(checkpoint.folder, folder, size, **STEERED)
        run.when("drafts-1.jsonl", 9, run.children[1].kill)
        first, second, *third = run.ended()
        assert first == (2, GONE.format(rank=1, size=size, folder=folder))
        assert second == (-signal.SIGKILL, "")
        assert third == [(2, "")] * (size - 2)
    kept = {json.loads(line)["sum"] for path in folder.glob("drafts*") for line in path.read_text().splitlines()}
    complete(checkpoint.folder, folder, 2, **STEERED)

    assert rows(folder) == expected
    drafts = [json.loads(line) for path in folder.glob("drafts*") for line in path.read_text().splitlines()]
    assert kept <= {draft["sum"] for draft in drafts}


@pytest.mark.slow
def test_losing_rank_0_ends_all_workers_and_one_process_can_resume(checkpoint: Loaded, tmp_path: Path) -> None:
    expected, folder = steered(checkpoint, tmp_path / "alone"), tmp_path / "rows"
    run = Run(checkpoint.folder, folder, 3, **STEERED)
    run.when("accepted.jsonl", 12, run.children[0].kill)
    assert run.ended() == [(-signal.SIGKILL, ""), (2, GONE.format(rank=0, size=3, folder=folder)), (2, "")]
    complete(checkpoint.folder, folder, 1, **STEERED)

    assert rows(folder) == expected
    assert [path.name for path in folder.glob("drafts*")] == ["drafts.jsonl"]


@pytest.mark.slow
def test_ten_kills_alternating_between_two_workers(checkpoint: Loaded, tmp_path: Path) -> None:
    expected, folder = steered(checkpoint, tmp_path / "alone"), tmp_path / "rows"
    for round_ in range(10):
        victim = round_ % 2
        run = Run(checkpoint.folder, folder, 2, **STEERED)
        name = ("drafts.jsonl", "drafts-1.jsonl")[victim]
        before = len(numbers(folder / name)) if victim == 0 and (folder / name).exists() else 0
        run.when(name, before + 3, run.children[victim].kill)
        assert run.ended()[victim][0] == -signal.SIGKILL
    complete(checkpoint.folder, folder, 2, **STEERED)

    assert rows(folder) == expected


@pytest.mark.slow
def test_a_larger_count_and_a_raised_limit_work_with_any_number_of_workers(checkpoint: Loaded, tmp_path: Path) -> None:
    checkpoint.make(tmp_path / "alone", count=50, max_answer=24)
    folder = tmp_path / "rows"
    complete(checkpoint.folder, folder, 3, count=20)
    complete(checkpoint.folder, folder, 2, count=20, max_answer=24)
    complete(checkpoint.folder, folder, 3, count=50, max_answer=24)

    assert rows(folder) == rows(tmp_path / "alone")


@pytest.mark.slow
def test_sigterm_acts_like_ctrl_c_if_no_worker_is_lost(checkpoint: Loaded, tmp_path: Path) -> None:
    run = Run(checkpoint.folder, tmp_path / "rows", 2, count=200)
    run.when("accepted.jsonl", 5, run.children[0].terminate)

    assert run.ended() == [(130, ""), (2, "")]


@pytest.mark.slow
def test_the_command_under_mlx_launch(tmp_path: Path) -> None:
    program = [sys.executable, "-c", "from apps.cli.main import main; main()"]
    command = [*program, "magpie", "run", "tiny-llama3", "--count", "40", "--out"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    launcher = "from mlx._distributed_utils.launch import main; main()"

    def launch(*arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [
                sys.executable,
                "-c",
                launcher,
                "-n",
                "2",
                "-p",
                "32711",
                "--",
                *command,
                str(tmp_path / "two"),
                *arguments,
            ],
            env=environment,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    with launch() as killed:
        drafts = tmp_path / "two" / "drafts-1.jsonl"
        while killed.poll() is None and (not drafts.exists() or drafts.read_bytes().count(b"\n") < 3):
            time.sleep(0.01)
        found = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(killed.pid)], capture_output=True, text=True)
        first = int((tmp_path / "two" / ".lock").read_text())
        [second] = {int(line.split()[0]) for line in found.stdout.splitlines()} - {first}
        os.kill(second, signal.SIGKILL)
        _, stderr = killed.communicate(timeout=120)
    assert stderr.count("error: Process 1 of this run's 2 is gone") == 1
    assert "Traceback" not in stderr
    with launch("--quiet") as resumed:
        out, stderr = resumed.communicate(timeout=120)
    assert (resumed.returncode, stderr) == (0, "")
    assert out.count("tiny-llama3") <= 3
    subprocess.run([*command, str(tmp_path / "one"), "-q"], env=environment, check=True, capture_output=True)
    assert rows(tmp_path / "two") == rows(tmp_path / "one")
