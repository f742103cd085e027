"""Several workers fill a folder with the rows of a single process, even if they are killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlx_suite.magpie.records import Draft, Ending, draft_line, draft_of
from mlx_suite.magpie.run import make_dataset
from mlx_suite.magpie.workers import Workers, absorb_drafts
from mlx_suite.runtime.errors import UserError
from mlx_suite.training.process_group import ProcessGroup
from tests.magpie.conftest import QUESTIONS, Loaded
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
    """Row numbers in a file."""
    return [json.loads(line)["index"] for line in path.read_text().splitlines()]


def drafted(index: int, raw: str) -> str:
    """A line of a draft file."""
    end = Ending(reason="stop", stop=3, tokens=1)
    return json.dumps(draft_line(Draft(index=index, raw=raw, instruction=raw, instruction_end=end))) + "\n"


def texts(folder: Path) -> list[str]:
    """The drafts of a folder in the order of the log."""
    return [json.loads(line)["raw"] for line in (folder / "drafts.jsonl").read_text().splitlines()]


# ---- drafts that other workers have left


def test_drafts_left_by_other_workers_are_logged_once(tmp_path: Path) -> None:
    (tmp_path / "drafts.jsonl").write_text(drafted(0, "a") + drafted(1, "b") + '{"index": 2')
    (tmp_path / "drafts-1.jsonl").write_text(drafted(1, "b") + drafted(3, "d") + '{"ind')
    (tmp_path / "drafts-2.jsonl").write_text(drafted(2, "c").strip())
    absorb_drafts(tmp_path)

    # Torn lines are cut off; one that lacks only its newline is kept.
    assert texts(tmp_path) == ["a", "b", "d", "c"]
    assert os.listdir(tmp_path) == ["drafts.jsonl"]


def test_a_decided_row_keeps_its_draft_and_an_undecided_one_gets_the_later_one(tmp_path: Path) -> None:
    (tmp_path / "drafts.jsonl").write_text(drafted(0, "a") + drafted(1, "b"))
    (tmp_path / "drafts-1.jsonl").write_text(drafted(0, "another a") + drafted(1, "another b"))
    (tmp_path / "accepted.jsonl").write_text('{"index": 0}\n')
    absorb_drafts(tmp_path)

    assert texts(tmp_path) == ["a", "b", "another b"]


def test_in_a_folder_of_a_former_version_drafts_of_decided_rows_are_in_all_files(tmp_path: Path) -> None:
    (tmp_path / ".shards.json").write_text("{}")
    (tmp_path / "drafts.jsonl").write_text(drafted(0, "cut") + drafted(2, "c"))
    (tmp_path / "drafts-1.jsonl").write_text(drafted(0, "whole") + drafted(1, "b"))
    (tmp_path / "rejected.jsonl").write_text('{"index": 0}\n{"index": 1}\n{"index": 2}\n')
    absorb_drafts(tmp_path)

    assert texts(tmp_path) == ["cut", "c", "whole", "b"]
    assert sorted(os.listdir(tmp_path)) == ["drafts.jsonl", "rejected.jsonl"]


def test_a_folder_of_one_process_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "drafts.jsonl").write_text('{"index"')
    absorb_drafts(tmp_path)

    assert (tmp_path / "drafts.jsonl").read_text() == '{"index"'


def test_a_file_that_is_still_being_written_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "drafts-1.jsonl"
    path.write_text(drafted(1, "b"))
    hold = "import fcntl, sys; file = open(sys.argv[1], 'r+'); fcntl.flock(file, fcntl.LOCK_EX); print(); input()"
    with subprocess.Popen(
        [sys.executable, "-u", "-c", hold, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(UserError, match="Another run is using it"):
            absorb_drafts(tmp_path)
        other.communicate(b"\n")
    assert path.read_text() == drafted(1, "b")


# ---- running together


def test_rank_0_generates_what_another_worker_has_left_out(
    checkpoint: Loaded, undisturbed: Path, tmp_path: Path, same_rows: SameRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Workers, "_gather", lambda workers, number: [number] * 2)
    lines = map(json.loads, (undisturbed / "drafts.jsonl").read_text().splitlines())
    odd = {line["index"]: line for line in lines if line["index"] % 2}
    short = [index for index in numbers(undisturbed / "accepted.jsonl") if index % 2][::3]
    other = tmp_path / "drafts-1.jsonl"

    def work_of_rank_1(*_: int) -> None:
        """All odd rows; some of them end before their response."""
        if other.exists():
            return
        for index, line in odd.items():
            draft = draft_of(line)
            cut = replace(draft, response="", response_end=None, turns=(), response_tags=None)
            with other.open("a") as file:
                file.write(json.dumps(draft_line(cut if index in short else draft)) + "\n")

    make_dataset(
        *(checkpoint.model, checkpoint.tokenizer, checkpoint.template, checkpoint.settings(), tmp_path),
        *(work_of_rank_1, QUESTIONS),
        group=ProcessGroup(rank=0, size=2, patience=60.0),
    )

    same_rows(tmp_path)
    logged = numbers(tmp_path / "drafts.jsonl")
    assert len(short) > 2
    assert {logged.count(index) for index in short} == {2}


def test_two_workers_generate_the_rows_of_one(checkpoint: Loaded, tmp_path: Path, same_rows: SameRows) -> None:
    complete(checkpoint.folder, tmp_path / "rows", 2)

    same_rows(tmp_path / "rows")
    assert [path.name for path in (tmp_path / "rows").glob("drafts*")] == ["drafts.jsonl"]
    assert json.loads((tmp_path / "rows" / "manifest.json").read_text())["work"][0]["processes"] == 2


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
        killed = {"signal": (signal.SIGKILL, "drafts-1.jsonl", 9)}
        first, second, *third = Run(checkpoint.folder, folder, size, {}, killed, **STEERED).ended()
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
    killed = {"signal": (signal.SIGKILL, "accepted.jsonl", 12)}
    run = Run(checkpoint.folder, folder, 3, killed, **STEERED)
    assert run.ended() == [(-signal.SIGKILL, ""), (2, GONE.format(rank=0, size=3, folder=folder)), (2, "")]
    complete(checkpoint.folder, folder, 1, **STEERED)

    assert rows(folder) == expected
    assert [path.name for path in folder.glob("drafts*")] == ["drafts.jsonl"]


@pytest.mark.slow
def test_ten_kills_alternating_between_two_workers(checkpoint: Loaded, tmp_path: Path) -> None:
    expected, folder = steered(checkpoint, tmp_path / "alone"), tmp_path / "rows"
    for round_ in range(10):
        victim = round_ % 2
        killed = {"signal": (signal.SIGKILL, ("drafts.jsonl", "drafts-1.jsonl")[victim], 3)}
        run = Run(checkpoint.folder, folder, 2, *([killed] if victim == 0 else [{}, killed]), **STEERED)
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
    terminated = {"signal": (signal.SIGTERM, "accepted.jsonl", 5)}
    run = Run(checkpoint.folder, tmp_path / "rows", 2, terminated)

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
