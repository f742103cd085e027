"""The experiment on sliding windows, at a tiny size."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.memory import human_bytes
from mlx_suite_apps.lab.experiment import Case, LabOptions, Workplace
from mlx_suite_apps.lab.experiments.window import CUT, EXPERIMENT, GEMMA2_2B
from mlx_suite_apps.lab.window_perplexity import NO_WINDOW, with_window
from tests.modeling.tiny import WINDOW, tiny_model, tokens

TINY = {"model": "tiny-gemma2", "tokens": 100, "contexts": [64]}
SHAPE = GEMMA2_2B | CUT | {"hidden_size": 16, "head_dim": 8, "intermediate_size": 16, "sliding_window": 8}
CASES = [
    Case(arm="tiny-ours", settings=TINY | {"windows": [8, 32, NO_WINDOW]}),
    Case(arm="tiny-mlx-lm", settings=TINY | {"windows": []}),
    Case(arm="memory-2b", settings={"config": SHAPE, "contexts": [256, 512], "windows": [4]}),
    Case(arm="work-2b", settings={"config": SHAPE, "contexts": [16, 32], "steps": 1}),
]


def measured(case: Case, folder: Path, options: LabOptions | None = None) -> dict[str, Any]:
    place = Workplace(folder=folder, shared=folder, options=options or LabOptions())
    about = {"arm": case.arm, "seed": case.seed, "settings": case.settings}
    return {**about, **EXPERIMENT.run(case, place)}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return [measured(case, tmp_path_factory.mktemp(case.name)) for case in CASES]


def test_mlx_lm_has_the_perplexity_of_our_model_without_a_window(results: list[dict[str, Any]]) -> None:
    ours = {each["window"]: each["value"] for each in results[0]["perplexity"]}
    [theirs] = results[1]["perplexity"]
    assert theirs["value"] == pytest.approx(ours[NO_WINDOW], rel=1e-4)
    assert abs(theirs["value"] - ours[32]) > 1e-3


def test_what_was_measured_is_told(results: list[dict[str, Any]]) -> None:
    findings = EXPERIMENT.tell(results)
    told = " ".join(findings.verdict)
    assert "in mlx-lm, which has no window: the same model as ours without one." in told
    assert "At 512 tokens the KV cache of Gemma 2 2B takes" in told
    assert [chart.name for chart in findings.charts] == [
        "tiny-window",
        "tiny-context",
        "memory-2b",
        "memory-window",
        "decode-2b",
        "prefill-2b",
    ]
    perplexity, _, sizes, _ = findings.tables
    # A token of a layer: keys and values, 4 heads of 8 dimensions in bf16. One layer of two has a window.
    layer = 2 * 4 * 8 * 2
    assert sizes.rows == (
        ("window 4", *(human_bytes(layer * (4 + context)) for context in (256, 512))),
        ("window 8", *(human_bytes(layer * (8 + context)) for context in (256, 512))),
        ("no ring", *(human_bytes(layer * 2 * context) for context in (256, 512))),
    )
    assert [row[0] for row in perplexity.rows] == ["8", "32 (trained)", "none", "mlx-lm"]


@pytest.mark.parametrize("family", ["gemma2", "gemma3_text", "mistral"])
def test_another_window_matters_only_beyond_the_smaller_one(family: str) -> None:
    model = tiny_model(family)
    longer = with_window(model, NO_WINDOW)
    ids = tokens(3 * WINDOW)
    before, after = (np.array(each(ids)) for each in (model, longer))
    np.testing.assert_allclose(after[:, :WINDOW], before[:, :WINDOW], atol=1e-5)
    assert np.abs(after[:, -1] - before[:, -1]).max() > 1e-3
    np.testing.assert_allclose(np.array(with_window(longer, WINDOW)(ids)), before, atol=1e-5)


def test_a_checkpoint_of_ones_own_adds_its_windows_memory_and_time(
    results: list[dict[str, Any]], tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("A town by the river has an old bridge. " * 20)
    options = LabOptions(quick=True, seeds=1, model="tiny-gemma2", text=str(text))
    cases = [case for case in EXPERIMENT.cases(options) if case.arm.startswith("model-")]
    assert [case.arm for case in cases] == [
        "model-window-8",
        "model-window-32",
        "model-window-none",
        "model-mlx-lm",
        "model-memory",
        "model-work",
    ]
    assert cases[0].settings == {
        "model": "tiny-gemma2",
        "text": "text.txt",
        "trained": 32,
        "window": 8,
        "context": 64,
        "tokens": 1024,
    }
    shorter = {"model-memory": {"contexts": [256]}, "model-work": {"contexts": [64], "steps": 1}}
    own = [
        measured(replace(case, settings={**case.settings, **shorter.get(case.arm, {})}), tmp_path, options)
        for case in cases
    ]
    assert own[2]["value"] == pytest.approx(own[3]["value"], rel=1e-4)
    findings = EXPERIMENT.tell([*results, *own])
    told = f"tiny-gemma2 has a perplexity of {own[1]['value']:.3f} with its window of 32"
    assert any(sentence.startswith(told) for sentence in findings.verdict)
    table = next(table for table in findings.tables if table.title == "Perplexity of tiny-gemma2 by window")
    assert [row[0] for row in table.rows] == ["8", "32 (trained)", "none", "mlx-lm"]
    names = [chart.name for chart in findings.charts]
    assert names[-4:] == ["model-window", "memory-model", "decode-model", "prefill-model"]
    assert len(set(names)) == len(names)


def test_models_without_a_window_and_missing_texts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no sliding window"):
        EXPERIMENT.cases(LabOptions(model="tiny-llama3"))
    with pytest.raises(UserError) as error:
        EXPERIMENT.cases(LabOptions(text="some.txt"))
    assert error.value.fix == "give --model too"
    with pytest.raises(UserError, match="cannot be read"):
        EXPERIMENT.cases(LabOptions(model="tiny-gemma2", text=str(tmp_path / "missing.txt")))
