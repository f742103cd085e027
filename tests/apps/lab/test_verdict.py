"""Means, deviations and the sentences that follow from them."""

from typing import Any

import pytest

from mlx_suite_apps.lab.page import render_page, table_text
from mlx_suite_apps.lab.recipe import LabModel, LabRecipe, LabTraining, LabTuning, LabWorld, Sweep
from mlx_suite_apps.lab.verdict import Spread, by_arm, sweep_of, verdict

RECIPE = LabRecipe(
    title="Small <b>lab</b>",
    arms=("repeat", "instruct"),
    seeds=3,
    world=LabWorld(people=4),
    model=LabModel(config={"model_type": "llama"}),
    training=LabTraining(tokens=5000),
    tuning=LabTuning(steps=(0, 10)),
    sweep=Sweep(arm="instruct", shares=(0.1,), seeds=1),
)
GROUPS = ("recall", "asked", "not asked", "other people", "open book")


def result(arm: str, seed: int, right: int, bits: float = 0.5, share: float | None = None) -> dict[str, Any]:
    scores = {group: {"right": right, "first_right": right, "asked": 100} for group in GROUPS}
    return {
        "arm": arm,
        "share": (0.5 if arm == "instruct" else 0.0) if share is None else share,
        "seed": seed,
        "tokens": 5000,
        "seconds": 10.0,
        "bits_per_byte": bits,
        "parts": [{"name": "raw", "tokens": 5000, "passes": 2.5}],
        "scores": scores,
        "tuned": scores,
        "curve": [{"step": 0, "scores": scores}, {"step": 10, "scores": scores}],
    }


RESULTS = [
    *(result("repeat", seed, right) for seed, right in enumerate((10, 12, 11))),
    *(result("instruct", seed, right, bits=0.5) for seed, right in enumerate((40, 44, 42))),
    result("instruct", 0, 20, share=0.1),
]


@pytest.mark.parametrize(
    ("one", "other", "clear"),
    [
        ((0.10, 0.12, 0.11), (0.40, 0.44, 0.42), True),
        ((0.10, 0.30, 0.20), (0.25, 0.35, 0.30), False),
        ((0.2,), (0.9,), False),
        ((0.2, 0.2), (0.2, 0.2), False),
        ((0.2, 0.2), (0.3, 0.3), True),
    ],
)
def test_a_difference_is_clear_if_it_is_large_beside_the_seeds(
    one: tuple[float, ...], other: tuple[float, ...], clear: bool
) -> None:
    assert Spread.of(one).clearly_differs(Spread.of(other)) is clear


def test_the_spread_is_mean_and_sample_deviation() -> None:
    spread = Spread.of([1.0, 2.0, 3.0])
    assert (spread.mean, spread.sd, spread.count) == (2.0, 1.0, 3)
    assert Spread.of([0.4]).sd == 0.0


def test_the_verdict_compares_every_measure_with_the_repeated_text() -> None:
    sentences = verdict(RESULTS, RECIPE, {})
    assert sentences[0] == "Bits per byte: no arm is better than repeat with 0.500 ± 0.000."
    assert sentences[2] == (
        "Open book, before tuning: best is instruct with 42.0 ± 2.0, repeat has 11.0 ± 1.0; "
        "clearly better than repeat: instruct."
    )
    assert len(sentences) == 10


def test_arms_below_the_most_frequent_answer_are_not_compared() -> None:
    sentences = verdict(RESULTS, RECIPE, {"asked": 0.42, "open book": 0.41})
    assert "Asked, before tuning: no arm beats the most frequent answer with 42.0." in sentences
    assert sum("Open book, before tuning: best is instruct" in sentence for sentence in sentences) == 1


def test_a_single_seed_is_called_that() -> None:
    sentences = verdict([each for each in RESULTS if each["seed"] == 0 and each["share"] != 0.1], RECIPE, {})
    assert sentences[-1] == "Fewer than three seeds: differences may be chance."


def test_the_sweep_has_the_control_at_share_zero_and_the_arms_do_not_hold_its_other_shares() -> None:
    assert {arm: len(each) for arm, each in by_arm(RESULTS, RECIPE).items()} == {"repeat": 3, "instruct": 3}
    assert [(share, len(each)) for share, each in sweep_of(RESULTS, RECIPE)] == [(0.0, 3), (0.1, 1), (0.5, 3)]


def test_the_table_shows_means_deviations_and_the_baseline() -> None:
    lines = table_text(RESULTS, RECIPE, {"asked": 0.125}).splitlines()
    assert lines[2].startswith("| repeat | 0.500 ± 0.000 | 11.0 ± 1.0 |")
    assert lines[-1] == "| most frequent answer | – | – | – | 12.5 | – | – | – | 12.5 | – | – |"


def test_the_page_escapes_its_texts_and_is_the_same_for_the_same_results() -> None:
    page = render_page(RESULTS, RECIPE, {"asked": 0.125})
    assert "Small &lt;b&gt;lab&lt;/b&gt;" in page and "<script" not in page
    assert page.count('class="lines"') == 6
    assert "Synthetic share of instruct" in page
    assert page == render_page(RESULTS, RECIPE, {"asked": 0.125})
