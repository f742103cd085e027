"""`lab merge`: its arms, its lessons, its verdict."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlx_suite.microworld import Verdict, check, is_heldout, make_world
from mlx_suite.transfer.merge.recipe import METHODS
from mlx_suite_apps.lab.experiment import Case, LabOptions, Workplace
from mlx_suite_apps.lab.experiments.merge import arms, cases, run, tell
from mlx_suite_apps.lab.skills import KNOWN, OTHER_WORLD, SKILLS, write_lessons


def result(arm: str, seed: int, skills: float, known: float = 0.9) -> dict[str, Any]:
    accuracy = {**dict.fromkeys(SKILLS, skills), KNOWN: known}
    return {
        **{"arm": arm, "seed": seed, "settings": {"asked": 100}},
        **{"accuracy": accuracy, "skills": skills, "known": known},
    }


def test_every_method_merges_both_soups() -> None:
    found = set(arms(LabOptions()))
    merges = {name.removeprefix("skills-") for name in found if name.startswith("skills-")}
    assert {f"seeds-{name}" for name in merges} <= found
    assert merges == set(METHODS) - {"passthrough", "liti"} | {"dare-ties"}


def test_a_quick_version_has_few_arms_and_every_seed_has_all() -> None:
    assert len(cases(LabOptions(quick=True, seeds=1))) == 13
    assert len(cases(LabOptions())) == 3 * len(arms(LabOptions()))


def test_lessons_are_right_distinct_and_never_held_out(tmp_path: Path) -> None:
    write_lessons(tmp_path / "lessons.jsonl", ["jobs", "places"], 20)
    rows = [json.loads(line) for line in (tmp_path / "lessons.jsonl").read_text().splitlines()]
    assert len({row["instruction"] for row in rows}) == 40
    assert not any(is_heldout(row["instruction"]) for row in rows)
    assert {check(row["instruction"], row["output"], make_world(OTHER_WORLD)) for row in rows} == {Verdict.RIGHT}


def test_the_verdict_names_the_best_soups_and_those_that_forget() -> None:
    results = []
    for seed, noise in enumerate((0.0, 0.01, 0.02)):
        results += [
            result("base", seed, 0.4 + noise),
            result("expert-jobs", seed, 0.5 + noise, known=0.5 + noise),
            result("mixture", seed, 0.7 + noise),
            result("skills-linear", seed, 0.6 + noise),
            result("skills-ties", seed, 0.55 + noise, known=0.3 + noise),
            result("seeds-linear", seed, 0.71 + noise),
        ]
    findings = tell(results)
    assert findings.verdict == (
        "Mean of the skills: skills-linear is the best soup of skills with 61.0 ± 1.0, the best expert (expert-jobs) "
        "has 51.0 ± 1.0, the base 41.0 ± 1.0; clearly better than expert-jobs: skills-linear, skills-ties.",
        "Mean of the skills: seeds-linear is the best soup of seeds with 72.0 ± 1.0, one finetune of the mixture "
        "(mixture) has 71.0 ± 1.0, the base 41.0 ± 1.0; clearly better than mixture: none.",
        "Soups of skills that are not clearly worse than the base in what it knew before: skills-linear.",
    )
    assert findings.tables[0].rows[0] == ("base", *["41.0 ± 1.0"] * 4, "90.0 ± 0.0")


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["mixture-average", "mixture-liti", "skills-dare-ties", "seeds-warp"])
def test_arms_are_trained_merged_and_scored(arm: str, tmp_path: Path) -> None:
    options = LabOptions(seeds=1)
    [settings] = [each for name, each in arms(options).items() if name == arm]
    training = {**settings["training"], "examples": 16, "steps": 1}
    case = Case(arm=arm, settings={**settings, "training": training, "asked": 3})
    (tmp_path / "shared").mkdir()
    found = run(case, Workplace(folder=tmp_path / "trial", shared=tmp_path / "shared", options=options))
    assert set(found["accuracy"]) == {*SKILLS, KNOWN}
    assert not (tmp_path / "trial" / "model").exists()
