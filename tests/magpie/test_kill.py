"""kill -9 at any moment costs nothing but time."""

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.magpie.conftest import Loaded

CHILD = """
import sys
from pathlib import Path
from tests.magpie.conftest import load_checkpoint

def on_progress(accepted, asked):
    print(asked, flush=True)

load_checkpoint(Path(sys.argv[1])).make(Path(sys.argv[2]), batch=int(sys.argv[3]), on_progress=on_progress)
"""
REPOSITORY = Path(__file__).parents[2]


def test_killed_runs_end_with_the_rows_of_an_undisturbed_one(
    checkpoint: Loaded, tmp_path: Path, same_rows: Callable[[Path], None]
) -> None:
    chance = random.Random(7)
    kills = 0
    for batch in (3, 8, 2, 5):
        arguments = [sys.executable, "-c", CHILD, str(checkpoint.folder), str(tmp_path), str(batch)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as child:
            assert child.stdout is not None
            for _ in range(chance.randint(2, 25)):
                child.stdout.readline()
            child.kill()
            child.wait()
            kills += child.returncode == -9
    assert kills == 4
    written = [(tmp_path / name).read_bytes() for name in ("accepted.jsonl", "rejected.jsonl")]
    checkpoint.make(tmp_path)

    same_rows(tmp_path)
    # What the killed runs had made was kept, not made again.
    assert written[0]
    for name, before in zip(("accepted.jsonl", "rejected.jsonl"), written, strict=True):
        whole = before[: before.rfind(b"\n") + 1]
        assert (tmp_path / name).read_bytes().startswith(whole)
