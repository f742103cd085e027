"""The experiment on distillation, at a tiny size."""

from dataclasses import replace
from pathlib import Path

import pytest

from mlx_suite_apps.lab.experiment import LabOptions, Workplace, over_seeds
from mlx_suite_apps.lab.experiments.distill import ARMS, EXPERIMENT, DistillTraining, cases

TINY = replace(DistillTraining(), steps=2, batch=4, conversations=24, held_out=3, max_new_tokens=4, draws=4)


pytestmark = pytest.mark.usefixtures("uncompiled")


def test_every_arm_has_the_same_budget() -> None:
    found = cases(LabOptions(seeds=2))
    assert [(case.arm, case.seed) for case in found] == [(arm, seed) for seed in (0, 1) for arm in ARMS]
    assert len({str(case.settings) for case in found}) == 1


def test_arms_are_trained_and_compared(tmp_path: Path) -> None:
    results = []
    for case in over_seeds(LabOptions(seeds=1), {arm: vars(TINY) for arm in ARMS}):
        place = Workplace(folder=tmp_path / case.name, shared=tmp_path / "shared", options=LabOptions())
        about = {"arm": case.arm, "seed": case.seed, "settings": case.settings, "seconds": 1.0}
        results.append({**about, **EXPERIMENT.run(case, place)})
    for result in results:
        assert result["trained_tokens"] > 0 and 0.0 <= result["accuracy"] <= 1.0
        assert [step for step, _ in result["curve"]] == [0, 1, 2]
    # All begin with the same weights.
    assert len({result["curve"][0][1] for result in results}) == 1
    findings = EXPERIMENT.tell(results)
    [table] = findings.tables
    assert [row[0] for row in table.rows] == list(ARMS)
    assert findings.verdict[0].startswith("Perplexity of held-out responses: forward ")
