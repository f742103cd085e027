"""kill -9 at any moment costs only time."""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.magpie.conftest import Loaded

CHILD = """
import json, sys
from pathlib import Path
from tests.magpie.conftest import load_checkpoint

decided = []

def on_progress(accepted, asked, in_flight):
    if asked not in decided:
        decided.append(asked)
        print(asked, flush=True)

given = json.loads(sys.argv[3])
settings = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
load_checkpoint(Path(sys.argv[1])).make(Path(sys.argv[2]), on_progress=on_progress, **settings)
"""
REPOSITORY = Path(__file__).parents[2]
ROWS = ("accepted.jsonl", "rejected.jsonl")
STEERED = {"count": 60, "topics": ["cats", "dogs"], "quotas": ["category:v=0.4,Q=0.3"], "turns": 2}
"""Settings whose rows depend on earlier decisions."""


def killed(checkpoint: Loaded, folder: Path, after: int, **settings: object) -> bool:
    """Start or resume a run and kill it after this many decisions; False if it finished first."""
    arguments = [sys.executable, "-c", CHILD, str(checkpoint.folder), str(folder), json.dumps(settings)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as child:
        assert child.stdout is not None
        for _ in range(after):
            child.stdout.readline()
        child.kill()
        child.wait()
        assert child.returncode in (-9, 0)
        return child.returncode == -9


def written(folder: Path) -> dict[str, bytes]:
    """The complete lines of each file."""
    texts = {name: (folder / name).read_bytes() for name in (*ROWS, "drafts.jsonl")}
    return {name: text[: text.rfind(b"\n") + 1] for name, text in texts.items()}


def test_killed_runs_end_with_the_rows_of_an_uninterrupted_one(
    checkpoint: Loaded, tmp_path: Path, same_rows: Callable[[Path], None]
) -> None:
    chance = random.Random(7)
    for batch in (3, 8, 5):
        assert killed(checkpoint, tmp_path, chance.randint(2, 25), batch=batch)
    before = written(tmp_path)
    checkpoint.make(tmp_path)

    same_rows(tmp_path)
    # The killed runs' rows were kept, not generated again.
    assert all(before.values())
    for name, text in before.items():
        assert (tmp_path / name).read_bytes().startswith(text)


@pytest.mark.slow
def test_twenty_kills_of_one_steered_run(checkpoint: Loaded, tmp_path: Path) -> None:
    chance = random.Random(3)
    kills = sum(killed(checkpoint, tmp_path / "killed", chance.randint(2, 14), **STEERED) for _ in range(20))
    assert kills == 20
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in STEERED.items()}
    checkpoint.make(tmp_path / "killed", **settings)
    checkpoint.make(tmp_path / "plain", **settings)

    for name in (*ROWS, "embeddings.npy"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
