"""A data-parallel run: two processes with half of each batch train the model of one, and share one corpus."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from tests.pretrain.story import run_rhymes

REPOSITORY = Path(__file__).parents[2]
SECONDS = 60
"""Seconds after which a process counts as hanging."""

CHILD = """
import sys
from pathlib import Path
import mlx_suite
import mlx.core as mx
mx.set_default_device(mx.cpu)
mx.disable_compile()
from mlx_suite.training.process_group import join
from tests.pretrain.story import run_rhymes

run_rhymes(Path(sys.argv[1]), Path(sys.argv[2]), group=join(), accumulate=2, batch=3)
"""


@pytest.mark.slow
@pytest.mark.usefixtures("uncompiled")
def test_two_processes_train_the_model_of_one(letters: Path, tmp_path: Path) -> None:
    folders = [tmp_path / "alone", tmp_path / "together"]
    for folder in folders:
        folder.mkdir()
    run_rhymes(letters, folders[0], accumulate=2, batch=3)
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("127.0.0.1", 0))
        hosts = [[f"127.0.0.1:{each.getsockname()[1]}"] for each in (first, second)]
    (tmp_path / "hosts.json").write_text(json.dumps(hosts))
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(letters), str(folders[1])],
            cwd=REPOSITORY,
            env=os.environ | {"MLX_HOSTFILE": str(tmp_path / "hosts.json"), "MLX_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [child.communicate(timeout=SECONDS)[1] for child in children]
    finally:
        for child in children:
            child.kill()
    assert [child.returncode for child in children] == [0, 0], said
    alone, together = (mx.load(str(folder / "run" / "last" / "model.safetensors")) for folder in folders)
    assert isinstance(alone, dict) and isinstance(together, dict)
    for name, array in alone.items():
        assert np.abs(np.array(array - together[name])).max() < 1e-5, name
    losses = [
        [line["loss"] for line in map(json.loads, (folder / "run" / "metrics.jsonl").read_text().splitlines())]
        for folder in folders
    ]
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
