"""With a real engine, neither batch size nor kill -9 changes a byte of the augmented corpus."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from mlx_suite.synthesize.run import synthesize
from tests.synthesize.random_chat import TEXTS, random_job, write_random_chat
from tests.synthesize.scripted_synthesizer import lines

CHILD = """
import sys
from dataclasses import replace
from pathlib import Path
from mlx_suite.synthesize.run import synthesize
from tests.synthesize.random_chat import random_job

def tell(stage, done, total):
    print(stage, done, flush=True)

times = float(sys.argv[4]) or None
job = random_job(Path(sys.argv[1]), batch=int(sys.argv[3]), times=times)
synthesize(replace(job, tell=tell), Path(sys.argv[2]))
"""
REPOSITORY = Path(__file__).parents[2]
OUTPUTS = ("corpus.jsonl", "texts.jsonl")


@pytest.fixture(scope="session")
def random_chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_chat(tmp_path_factory.mktemp("random"))


def outputs(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in OUTPUTS]


def killed(checkpoint: Path, folder: Path, after: int, batch: int, times: float = 0) -> bool:
    """Start or resume a run and kill it after this many progress reports; False if it finished first."""
    arguments = [sys.executable, "-c", CHILD, str(checkpoint), str(folder), str(batch), str(times)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as child:
        assert child.stdout is not None
        for _ in range(after):
            child.stdout.readline()
        child.kill()
        child.wait()
        assert child.returncode in (-9, 0)
        return child.returncode == -9


def test_eight_chains_at_a_time_write_what_one_at_a_time_writes(random_chat: Path, tmp_path: Path) -> None:
    for batch in (1, 8):
        synthesize(random_job(random_chat, batch=batch, times=3.0), tmp_path / str(batch))
    assert outputs(tmp_path / "1") == outputs(tmp_path / "8")
    written = [each for record in lines(tmp_path / "1" / "texts.jsonl") for each in record["written"]]
    assert len({each.get("rewrite") for each in written}) > 2 * len(TEXTS)
    assert {each["shots"] for each in written} == {0, 1, 2}


def test_a_killed_run_ends_with_the_bytes_of_an_uninterrupted_one(random_chat: Path, tmp_path: Path) -> None:
    assert killed(random_chat, tmp_path / "killed", 5, batch=2)
    before = (tmp_path / "killed" / "completions.jsonl").read_bytes()
    synthesize(random_job(random_chat, batch=3), tmp_path / "killed")
    synthesize(random_job(random_chat, batch=8), tmp_path / "whole")
    assert outputs(tmp_path / "killed") == outputs(tmp_path / "whole")
    kept = before[: before.rfind(b"\n") + 1]
    assert kept and (tmp_path / "killed" / "completions.jsonl").read_bytes().startswith(kept)


@pytest.mark.slow
def test_twenty_kills_of_one_run_that_grows_a_corpus(random_chat: Path, tmp_path: Path) -> None:
    chance = random.Random(3)
    kills = 0
    for _ in range(20):
        done = len((tmp_path / "killed" / "completions.jsonl").read_bytes().splitlines()) if kills else 0
        kills += killed(random_chat, tmp_path / "killed", done // 4 + chance.randint(4, 9), batch=4, times=12.0)
    assert kills == 20
    for name in ("killed", "whole"):
        synthesize(random_job(random_chat, batch=8, times=12.0), tmp_path / name)
    assert outputs(tmp_path / "killed") == outputs(tmp_path / "whole")
