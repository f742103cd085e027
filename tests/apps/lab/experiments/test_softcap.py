"""The experiment on soft-caps, at a tiny size."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mlx_suite_apps.lab.experiment import Case, LabOptions, Workplace
from mlx_suite_apps.lab.experiments.softcap import EXPERIMENT, GEMMA2
from mlx_suite_apps.lab.small_pretraining import SmallTraining

TRAINING = SmallTraining(
    config={
        **GEMMA2,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "head_dim": 8,
        "sliding_window": 8,
    },
    tokens=512,
    learning_rate=1e-3,
    people=2,
    vocabulary=300,
    length=32,
    batch=4,
    log_every=1,
)


def result(folder: Path, arm: str, training: SmallTraining) -> dict[str, Any]:
    case = Case(arm=arm, settings={"training": asdict(training)})
    place = Workplace(folder=folder / arm, shared=folder / "shared", options=LabOptions())
    return {"arm": arm, "seed": 0, "settings": case.settings, **EXPERIMENT.run(case, place)}


def test_logits_losses_and_norms_are_recorded_over_the_steps(tmp_path: Path) -> None:
    found = result(tmp_path, "usual-both", TRAINING)
    assert found["diverged_at"] is None and found["bits_per_byte"] > 0
    assert [step for step, _, _ in found["logits"]] == [step for step, _ in found["norms"]] == [1, 2, 3, 4]
    assert all(attention > 0 and final > 0 for _, attention, final in found["logits"])


def test_a_run_that_becomes_nan_is_a_result(tmp_path: Path) -> None:
    capped = result(tmp_path, "high-both", TRAINING)
    lost = result(tmp_path, "high-none", replace(TRAINING, learning_rate=1e30))
    assert lost["bits_per_byte"] is None and lost["diverged_at"] in (1, 2, 3)
    findings = EXPERIMENT.tell([capped, lost])
    assert "Runs that became NaN or inf at learning rate 0.03: both 0 of 1, none 1 of 1." in findings.verdict
    [table] = findings.tables
    assert [row[:3] for row in table.rows] == [
        ("both", "0 of 1", f"{capped['bits_per_byte']:.4f}"),
        ("none", "1 of 1", "–"),
    ]
