"""The experiment on self-distillation, at a tiny size."""

from dataclasses import replace
from pathlib import Path

import pytest

from mlx_suite_apps.lab.experiment import Case, LabOptions, Workplace
from mlx_suite_apps.lab.experiments.ssd import EXPERIMENT, SelfTraining, cases

TINY = replace(SelfTraining(temperature=0.6), rounds=1, rows=2, steps=1, held_out=2)


pytestmark = pytest.mark.usefixtures("uncompiled")


def test_arms_differ_in_the_temperature_of_responses() -> None:
    found = {case.arm: case.settings["temperature"] for case in cases(LabOptions(seeds=1))}
    assert found == {"greedy": 0.0, "t0.6": 0.6, "t1.0": 1.0}


def test_a_round_writes_rows_trains_on_them_and_is_measured(tmp_path: Path) -> None:
    case = Case(arm="t0.6", settings=vars(TINY))
    place = Workplace(folder=tmp_path / "case", shared=tmp_path / "shared", options=LabOptions())
    result = {"arm": case.arm, "seed": 0, "settings": case.settings, "seconds": 1.0, **EXPERIMENT.run(case, place)}
    assert len(result["accuracy"]) == 2 and len(result["own_rows"]) == 1
    assert len((tmp_path / "case" / "rows-1" / "accepted.jsonl").read_text().splitlines()) == 2
    assert (tmp_path / "case" / "round-1" / "last" / "model.safetensors").exists()
    findings = EXPERIMENT.tell([result])
    assert findings.verdict[0].startswith("Right responses: t0.6 after 1 rounds ")
