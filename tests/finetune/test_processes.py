"""A data-parallel run of two processes trains one adapter, written by rank 0."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from tests.finetune.story import run_sums

REPOSITORY = Path(__file__).parents[2]
SECONDS = 60
"""Seconds after which a process counts as hanging."""

CHILD = """
import json
import sys
from pathlib import Path
import mlx_suite
import mlx.core as mx
mx.set_default_device(mx.cpu)
mx.disable_compile()
from mlx_suite.finetune.prepare import prepare
from mlx_suite.finetune.run import finetune
from mlx_suite.training.process_group import join
from tests.finetune.story import sums_settings

changes = json.loads(sys.argv[4])
settings = sums_settings(Path(sys.argv[1]), Path(sys.argv[2]), out=sys.argv[3], **changes)
finetune(settings, prepare(settings), group=join())
"""


@pytest.mark.slow
@pytest.mark.parametrize("further", [{}, {"ema": 0.3, "anchor": 2.0}], ids=["plain", "anchored"])
def test_two_processes_train_the_adapter_of_one_and_rank_0_writes(
    further: dict[str, float], random_model: Path, tmp_path: Path
) -> None:
    changes = {"dropout": 0.0, "batch": 3, "accumulate": 2, **further}
    mx.disable_compile()
    run_sums(random_model, tmp_path, **changes)
    mx.enable_compile()
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("127.0.0.1", 0))
        hosts = [[f"127.0.0.1:{each.getsockname()[1]}"] for each in (first, second)]
    (tmp_path / "hosts.json").write_text(json.dumps(hosts))
    folders = [tmp_path / "first", tmp_path / "second"]
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(random_model), str(tmp_path), str(folder), json.dumps(changes)],
            cwd=REPOSITORY,
            env=os.environ | {"MLX_HOSTFILE": str(tmp_path / "hosts.json"), "MLX_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, folder in enumerate(folders)
    ]
    try:
        said = [child.communicate(timeout=SECONDS)[1] for child in children]
    finally:
        for child in children:
            child.kill()
    assert [child.returncode for child in children] == [0, 0], said
    assert not folders[1].exists()
    for saved in ("last", "ema") if further else ("last",):
        files = (run / saved / "adapters.safetensors" for run in (tmp_path / "run", folders[0]))
        alone, together = (mx.load(str(file)) for file in files)
        assert isinstance(alone, dict) and isinstance(together, dict)
        for name, array in alone.items():
            assert np.abs(np.array(array - together[name])).max() < 1e-5, name
