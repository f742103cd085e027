"""Agreement, kappa, F1 and calibration worked out by hand."""

import pytest

from mlx_suite.curation.tags.label_agreement import Told, label_agreement, same_labels

LABELS = ("low", "mid", "high")


def told(*pairs: str, confidence: float | None = None) -> list[Told]:
    """Each as "low mid 3": the truth, the label, and how many rows."""
    rows = []
    for pair in pairs:
        truth, label, count = pair.split()
        label_or_none = None if label == "?" else label
        rows += [Told(truth=truth, label=label_or_none, confidence=confidence)] * int(count)
    return rows


def test_agreement_is_compared_with_what_chance_would_give() -> None:
    # Of 20 rows 15 agree; chance gives (10·9 + 6·6 + 4·5) / 20 = 7.3.
    found = label_agreement(
        LABELS,
        told(
            "low low 8", "low mid 1", "low high 1", "mid mid 4", "mid low 1", "mid high 1", "high high 3", "high mid 1"
        ),
        scale=True,
    )

    assert (found.rows, found.agreed, found.share) == (20, 15, 0.75)
    assert found.matrix == ((8, 1, 1), (1, 4, 1), (0, 1, 3))
    assert found.kappa == pytest.approx((15 - 7.3) / (20 - 7.3))
    assert found.majority == 0.5
    assert found.macro_f1 == pytest.approx((16 / 19 + 8 / 12 + 6 / 9) / 3)
    # Off by one: 4 rows; off by two: 1 row, four times as bad.
    chance = (10 * 6 + 10 * 5 * 4 + 6 * 9 + 6 * 5 + 4 * 9 * 4 + 4 * 6) / 20
    assert found.weighted_kappa == pytest.approx(1 - (4 + 4) / chance)


def test_labels_without_an_order_have_no_weighted_kappa() -> None:
    assert label_agreement(LABELS, told("low high 1", "mid mid 1"), scale=False).weighted_kappa is None


def test_the_verdict_follows_kappa() -> None:
    def verdict(*pairs: str) -> str:
        return label_agreement(LABELS, told(*pairs), scale=False).verdict

    assert verdict("low low 5", "mid mid 5") == "can be believed"
    assert verdict("low low 5", "mid mid 4", "mid low 1") == "can be believed"
    assert verdict("low low 4", "low mid 1", "mid mid 4", "mid low 1") == "good enough to filter by"
    assert verdict("low low 3", "low mid 2", "mid mid 4", "mid low 1") == "weak: right on the average only"
    assert verdict("low low 5", "mid low 5") == "no better than guessing"
    assert verdict("low low 5") == "cannot be told: one label is all there is"


def test_a_reply_that_cannot_be_read_counts_as_wrong() -> None:
    found = label_agreement(LABELS, told("low low 3", "low ? 1", "mid mid 1"), scale=False)

    assert (found.rows, found.read, found.agreed) == (5, 4, 4)
    assert (found.parse_rate, found.share, found.kappa) == (0.8, 0.8, 1.0)


def test_nothing_told_is_no_figure() -> None:
    found = label_agreement(LABELS, told("low ? 2"), scale=True)
    assert (found.kappa, found.weighted_kappa, found.macro_f1, found.calibration_error) == (None, None, None, None)
    assert (found.confidence_right, found.confidence_wrong) == (None, None)


def test_confidence_is_compared_with_how_often_it_is_right() -> None:
    # 8 rows at 0.75, half of them right: off by 0.25. 2 rows at 1.0, both right: off by nothing.
    rows = [
        *told("low low 4", "low mid 4", confidence=0.75),
        *told("mid mid 2", confidence=1.0),
    ]
    found = label_agreement(LABELS, rows, scale=False)

    assert found.calibration_error == pytest.approx(0.2)
    assert found.confidence_right == pytest.approx((4 * 0.75 + 2) / 6)
    assert found.confidence_wrong == 0.75


def test_how_often_two_passes_say_the_same() -> None:
    assert same_labels(["a", "b", "c", "d"], ["a", "b", "c", "e"]) == 0.75
    assert same_labels([], []) is None
