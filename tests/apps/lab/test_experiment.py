"""The frame of measured experiments: results are kept, refused if they are of other settings, and shown."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from mlx_suite.runtime.errors import UserError
from mlx_suite_apps.cli.main import app
from mlx_suite_apps.lab.experiment import (
    Case,
    Experiment,
    Findings,
    LabOptions,
    ResultChart,
    ResultTable,
    Workplace,
    arms_of,
    compared,
    experiment_names,
    line_of,
    over_seeds,
    read_experiment,
    spread,
)
from mlx_suite_apps.lab.measure import run_experiment, write_experiment

ONCE, TWICE = LabOptions(seeds=1), LabOptions(seeds=2)


def tell(results: Sequence[Mapping[str, Any]]) -> Findings:
    arms = arms_of(results)
    found = {arm: spread(each, "loss") for arm, each in arms.items()}
    return Findings(
        verdict=(compared("Loss", "low", "high", found),),
        tables=(
            ResultTable(
                title="Losses",
                columns=("arm", "loss"),
                rows=tuple((arm, each.shown()) for arm, each in found.items()),
                note="Less is better.",
            ),
        ),
        charts=(
            ResultChart(
                name="loss",
                title="Loss < 1",
                lines=tuple(
                    line_of(arm, hue, [[(1, each["loss"]), (10, each["loss"] / 2)] for each in results])
                    for hue, (arm, results) in enumerate(arms.items())
                ),
                x_label="steps",
                y_label="nats",
                log_x=True,
            ),
        ),
    )


class Counting:
    """An experiment that writes down what it measures."""

    def __init__(self, low: int = 1) -> None:
        self.measured: list[str] = []
        self.experiment = Experiment(
            title="Does it matter?",
            about="Low beside\nhigh.\n\nBy hand.",
            cases=lambda options: over_seeds(options, {"low": {"x": low}, "high": {"x": 5}}),
            run=self.run,
            tell=tell,
            not_shown="Anything else.",
        )

    def run(self, case: Case, place: Workplace) -> Mapping[str, Any]:
        assert place.folder.is_dir() and place.shared.is_dir()
        if case.name == "high-1":
            raise KeyboardInterrupt
        self.measured.append(case.name)
        return {"loss": case.settings["x"] + 0.5 * case.seed}


def run(counting: Counting, options: LabOptions, folder: Path) -> list[Any]:
    return run_experiment("mine", options, folder, experiment=counting.experiment, tell=lambda line: None)


def write(counting: Counting, folder: Path, **more: Any) -> None:
    results = run(counting, ONCE, folder)
    write_experiment("mine", results, ONCE, folder, experiment=counting.experiment, **more)


def test_a_stopped_experiment_keeps_its_results_and_measures_only_the_rest(tmp_path: Path) -> None:
    first, second = Counting(), Counting()
    assert [each["loss"] for each in run(first, ONCE, tmp_path / "lab")] == [1, 5]
    with pytest.raises(KeyboardInterrupt):
        run(second, TWICE, tmp_path / "lab")
    assert first.measured == ["low-0", "high-0"]
    assert second.measured == ["low-1"]
    stored = json.loads((tmp_path / "lab" / "trials" / "low-1" / "result.json").read_text())
    assert {name: stored[name] for name in ("arm", "seed", "settings", "loss")} == {
        "arm": "low",
        "seed": 1,
        "settings": {"x": 1},
        "loss": 1.5,
    }


def test_results_of_other_settings_and_folders_of_other_versions_are_refused(tmp_path: Path) -> None:
    run(Counting(), ONCE, tmp_path / "lab")
    with pytest.raises(UserError, match="other settings") as changed:
        run(Counting(low=2), ONCE, tmp_path / "lab")
    assert changed.value.details == ("x: was 1, now 2",)
    with pytest.raises(UserError) as version:
        run(Counting(), LabOptions(seeds=1, quick=True), tmp_path / "lab")
    assert version.value.details == ("quick: was false, now true",)


def test_the_pages_hold_tables_figures_verdict_and_what_was_not_shown(tmp_path: Path) -> None:
    write(Counting(), tmp_path / "lab", markdown=tmp_path / "docs" / "mine.md")
    html = (tmp_path / "lab" / "index.html").read_text()
    assert "<p>Low beside high.</p>" in html and "<p>By hand.</p>" in html
    assert "<td>low</td><td>1.000</td>" in html
    assert "Loss: low 1.000, high 5.000 (one seed: the difference may be chance)." in html
    assert "<b>Not shown.</b> Anything else." in html
    assert "Loss &lt; 1" in html and html.count("<svg") == 1
    assert "http" not in re.sub(r"http-equiv", "", html)
    text = (tmp_path / "docs" / "mine.md").read_text()
    assert "| arm | loss |\n|--|--|\n| low | 1.000 |\n| high | 5.000 |\n\nLess is better.\n" in text
    assert "```sh\nmlx-suite lab mine --out lab/mine --seeds 1\n```" in text
    [figure] = re.findall(r"!\[.*\]\((.*)\)", text)
    assert (tmp_path / "docs" / figure).read_text().startswith('<svg xmlns="http://www.w3.org/2000/svg" class="lines"')
    assert (tmp_path / "docs" / "mine.json").read_text() == (tmp_path / "lab" / "results.json").read_text()


def test_writing_again_keeps_the_machine_that_measured(tmp_path: Path) -> None:
    write(Counting(), tmp_path / "lab")
    path = tmp_path / "lab" / "results.json"
    stored = json.loads(path.read_text())
    stored["machine"]["device"] = "an older machine"
    path.write_text(json.dumps(stored))
    write(Counting(), tmp_path / "lab")
    assert json.loads(path.read_text())["machine"]["device"] == "an older machine"
    assert "an older machine" in (tmp_path / "lab" / "index.html").read_text()


def test_two_seeds_that_agree_show_a_clear_difference() -> None:
    results = [{"arm": arm, "loss": loss} for arm, loss in [("a", 1.0), ("b", 2.0), ("a", 1.01), ("b", 2.01)]]
    found = {arm: spread(each, "loss") for arm, each in arms_of(results).items()}
    assert compared("Loss", "b", "a", found, 2) == "Loss: b 2.00 ± 0.01, a 1.00 ± 0.01: clearly higher."


@pytest.mark.parametrize("name", experiment_names())
def test_every_experiment_has_cases_for_every_seed_and_fewer_in_its_quick_version(name: str) -> None:
    experiment = read_experiment(name)
    full, quick = experiment.cases(LabOptions()), experiment.cases(LabOptions(quick=True, seeds=1))
    assert {case.seed for case in full} == {0, 1, 2} or len({case.seed for case in full}) == 1
    assert 0 < len(quick) <= len(full)
    assert len({case.name for case in full}) == len(full)
    assert experiment.not_shown.endswith(".") and experiment.about.strip().endswith(".")


def test_names_that_are_nearly_right_are_corrected(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError) as error:
        app(["lab", "knowlege"], standalone_mode=False)
    assert error.value.fix == "did you mean knowledge?"
    with pytest.raises(UserError) as error:
        app(["lab", "zzz"], standalone_mode=False)
    assert error.value.fix == "mlx-suite lab --list shows all names"
