"""Agreement, kappa, F1 and calibration error, worked out by hand."""

import pytest

from mlx_suite.curation.tags.label_agreement import JudgedRow, label_agreement, same_labels

LABELS = ("low", "mid", "high")


def judged(*pairs: str, confidence: float | None = None) -> list[JudgedRow]:
    """Rows from specs like "low mid 3": truth, label, number of rows."""
    rows = []
    for pair in pairs:
        truth, label, count = pair.split()
        label_or_none = None if label == "?" else label
        rows += [JudgedRow(truth=truth, label=label_or_none, confidence=confidence)] * int(count)
    return rows


def test_kappa_corrects_agreement_for_chance() -> None:
    # Of 20 rows 15 agree; chance gives (10·9 + 6·6 + 4·5) / 20 = 7.3.
    found = label_agreement(
        LABELS,
        judged(
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


def test_unordered_labels_have_no_weighted_kappa() -> None:
    assert label_agreement(LABELS, judged("low high 1", "mid mid 1"), scale=False).weighted_kappa is None


def test_the_verdict_follows_kappa() -> None:
    def verdict(*pairs: str) -> str:
        return label_agreement(LABELS, judged(*pairs), scale=False).verdict

    assert verdict("low low 5", "mid mid 5") == "reliable"
    assert verdict("low low 5", "mid mid 4", "mid low 1") == "reliable"
    assert verdict("low low 4", "low mid 1", "mid mid 4", "mid low 1") == "good enough to filter by"
    assert verdict("low low 3", "low mid 2", "mid mid 4", "mid low 1") == "weak: right only on average"
    assert verdict("low low 5", "mid low 5") == "no better than guessing"
    assert verdict("low low 5") == "undefined: only one label occurs"


def test_an_unparsable_reply_counts_as_wrong() -> None:
    found = label_agreement(LABELS, judged("low low 3", "low ? 1", "mid mid 1"), scale=False)

    assert (found.rows, found.read, found.agreed) == (5, 4, 4)
    assert (found.parse_rate, found.share, found.kappa) == (0.8, 0.8, 1.0)


def test_without_any_label_the_metrics_are_none() -> None:
    found = label_agreement(LABELS, judged("low ? 2"), scale=True)
    assert (found.kappa, found.weighted_kappa, found.macro_f1, found.calibration_error) == (None, None, None, None)
    assert (found.confidence_right, found.confidence_wrong) == (None, None)


def test_the_calibration_error_compares_confidence_with_accuracy() -> None:
    # 8 rows at 0.75, half of them right: off by 0.25. 2 rows at 1.0, both right: off by 0.
    rows = [
        *judged("low low 4", "low mid 4", confidence=0.75),
        *judged("mid mid 2", confidence=1.0),
    ]
    found = label_agreement(LABELS, rows, scale=False)

    assert found.calibration_error == pytest.approx(0.2)
    assert found.confidence_right == pytest.approx((4 * 0.75 + 2) / 6)
    assert found.confidence_wrong == 0.75


def test_same_labels_is_the_share_of_equal_labels() -> None:
    assert same_labels(["a", "b", "c", "d"], ["a", "b", "c", "e"]) == 0.75
    assert same_labels([], []) is None
