"""A data-parallel run of two processes trains one adapter, written by rank 0."""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from tests.finetune.story import run_sums
from tests.two_processes import run_two_processes

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
    folders = [tmp_path / "first", tmp_path / "second"]
    arguments = [(random_model, tmp_path, folder, json.dumps(changes)) for folder in folders]
    run_two_processes(CHILD, arguments, tmp_path)
    assert not folders[1].exists()
    for saved in ("last", "ema") if further else ("last",):
        files = (run / saved / "adapters.safetensors" for run in (tmp_path / "run", folders[0]))
        alone, together = (mx.load(str(file)) for file in files)
        assert isinstance(alone, dict) and isinstance(together, dict)
        for name, array in alone.items():
            assert np.abs(np.array(array - together[name])).max() < 1e-5, name
