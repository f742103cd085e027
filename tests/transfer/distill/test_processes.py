"""Two processes of an on-policy distillation sample the responses of one, and train the same adapter."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from tests.finetune.story import log
from tests.transfer.distill.story import run_distill
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
from mlx_suite.training.process_group import join
from mlx_suite.transfer.distill.run import distill
from tests.transfer.distill.story import distill_settings

changes = json.loads(sys.argv[5])
settings = distill_settings(*map(Path, sys.argv[1:4]), out=sys.argv[4], **changes)
distill(settings, prepare(settings), group=join())
"""


@pytest.mark.slow
@pytest.mark.parametrize("batching", ["pack", "bucket"])
def test_two_processes_with_half_a_batch_each_are_one_with_all_of_it(
    batching: str, student: Path, teacher: Path, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"on_policy": 0.5, "batch": 4, "batching": batching}
    changes |= {"row_length": None} if batching == "bucket" else {}
    mx.disable_compile()
    run_distill(student, teacher, tmp_path, **changes)
    mx.enable_compile()
    folders = [tmp_path / "first", tmp_path / "second"]
    run_two_processes(CHILD, [(student, teacher, tmp_path, each, json.dumps(changes)) for each in folders], tmp_path)
    assert not folders[1].exists()
    losses = [[line["loss"] for line in log(run, "train")] for run in (tmp_path / "run", folders[0])]
    assert losses[1] == pytest.approx(losses[0], abs=2e-5)
    alone, together = (mx.load(str(run / "last" / "adapters.safetensors")) for run in (tmp_path / "run", folders[0]))
    assert isinstance(alone, dict) and isinstance(together, dict)
    for name, array in alone.items():
        assert np.abs(np.array(array - together[name])).max() < 1e-5, name
