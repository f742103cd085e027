"""A data-parallel run: two processes with half of each batch train the model of one, and share one corpus."""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from tests.pretrain.story import run_rhymes
from tests.two_processes import run_two_processes

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
    run_two_processes(CHILD, [(letters, folders[1])] * 2, tmp_path, SECONDS)
    alone, together = (mx.load(str(folder / "run" / "last" / "model.safetensors")) for folder in folders)
    assert isinstance(alone, dict) and isinstance(together, dict)
    for name, array in alone.items():
        assert np.abs(np.array(array - together[name])).max() < 1e-5, name
    losses = [
        [line["loss"] for line in map(json.loads, (folder / "run" / "metrics.jsonl").read_text().splitlines())]
        for folder in folders
    ]
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
