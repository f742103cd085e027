"""The experiment on key-value heads, at a tiny size."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from mlx_suite.runtime.footprint import parameter_count
from mlx_suite_apps.lab.experiment import Case, LabOptions, Workplace, over_seeds
from mlx_suite_apps.lab.experiments.gqa import DECODE, EXPERIMENT, KEY_HEADS, TIMED, TRAINED, with_key_heads
from mlx_suite_apps.lab.small_pretraining import SmallTraining

SMALL: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "head_dim": 4}


@pytest.mark.parametrize("shape", [TRAINED | {"vocab_size": 640}, TIMED], ids=["trained", "timed"])
def test_fewer_heads_and_a_wider_mlp_have_the_same_number_of_parameters(shape: dict[str, Any]) -> None:
    counts = [parameter_count(with_key_heads(shape, heads)) for heads in KEY_HEADS.values()]
    assert max(counts) / min(counts) < 1.01
    assert [with_key_heads(TRAINED, heads)["intermediate_size"] for heads in (8, 2, 1)] == [352, 416, 427]


def test_arms_are_trained_and_timed_and_compared(tmp_path: Path) -> None:
    arms = {
        arm: {
            "training": asdict(
                SmallTraining(
                    config=with_key_heads(TRAINED | SMALL, heads),
                    tokens=512,
                    learning_rate=1e-3,
                    people=2,
                    vocabulary=300,
                    length=32,
                    batch=4,
                )
            )
        }
        for arm, heads in KEY_HEADS.items()
    }
    timed = {
        "configs": {arm: with_key_heads(TIMED | SMALL | {"vocab_size": 64}, heads) for arm, heads in KEY_HEADS.items()},
        "rows": 1,
        "contexts": [8, 16],
        "steps": 1,
    }
    cases = [*over_seeds(LabOptions(seeds=1), arms), Case(arm=DECODE, settings=timed)]
    results = []
    for case in cases:
        place = Workplace(folder=tmp_path / case.name, shared=tmp_path / "shared", options=LabOptions())
        about = {"arm": case.arm, "seed": case.seed, "settings": case.settings}
        results.append({**about, **EXPERIMENT.run(case, place)})
    assert [each["kv_bytes_per_token"] for each in results[:3]] == [2 * 8 * 4 * 4, 2 * 2 * 4 * 4, 2 * 1 * 4 * 4]
    findings = EXPERIMENT.tell(results)
    assert "The KV cache is of gqa 4 times smaller, of mqa 8 times smaller than of mha." in findings.verdict
    quality, decode = findings.tables
    assert [row[0] for row in quality.rows] == [row[0] for row in decode.rows] == ["mha", "gqa", "mqa"]
    assert [chart.name for chart in findings.charts] == ["loss", "decode"]
