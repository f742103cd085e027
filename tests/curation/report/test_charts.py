"""Axes, histograms and scatter plots."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_suite.curation.report.svg import Point, axis_for, box_around, distance_axis, histogram, scatter, short
from tests.curation.report.rows import Page


def test_integers_have_integer_bins() -> None:
    axis = axis_for([[4, 5, 5, 6]])

    assert axis.edges == (4, 5, 6, 7)
    assert axis.ticks == (4, 5, 6, 7)


def test_small_values_start_the_axis_at_zero() -> None:
    assert axis_for([[1, 5, 6]]).edges == (0, 1, 2, 3, 4, 5, 6, 7)


def test_a_long_tail_has_a_logarithmic_axis() -> None:
    axis = axis_for([[2] * 50 + [1000]])

    assert axis.is_log
    assert axis.ticks == (2, 5, 10, 20, 50, 100, 200, 500, 1000)
    assert not axis_for([[100, 120, 140]]).is_log


@given(
    st.lists(
        st.lists(st.one_of(st.integers(0, 10**6), st.floats(0, 10**6)), min_size=1, max_size=20),
        min_size=1,
        max_size=2,
    )
)
def test_every_value_is_in_a_bin_and_on_the_axis(columns: list[list[float]]) -> None:
    axis = axis_for(columns)

    assert list(axis.edges) == sorted(set(axis.edges))
    for value in (each for column in columns for each in column):
        assert axis.edges[0] <= value <= axis.edges[-1]
        assert -1e-9 <= axis.place(value) <= 1 + 1e-9
    assert all(axis.low - 1e-9 <= tick <= axis.high + 1e-9 for tick in axis.ticks)
    Page(histogram(columns, axis, "words", "Lengths"))


def test_distance_axes_start_at_zero() -> None:
    axis = distance_axis([[0.31, 0.52], []])

    assert (axis.low, axis.high) == (0, pytest.approx(0.6))
    assert axis.edges[-1] >= 0.52
    assert distance_axis([[0.0]]).high > 0


def test_tick_labels_are_short() -> None:
    assert [short(value) for value in (0, 0.25, 950, 1500, 12_000, 3_400_000)] == [
        "0",
        "0.25",
        "950",
        "1,500",
        "12k",
        "3.4M",
    ]


def test_a_histogram_has_a_bar_for_each_nonempty_bin() -> None:
    picture = histogram([[1, 1, 2, 4]], axis_for([[1, 1, 2, 4]]), "tokens", "Lengths")

    bars = [attributes["d"] for tag, attributes in Page(picture).tags if attributes.get("class") == "series-a"]
    assert len(bars) == 1 and bars[0] is not None and bars[0].count("M") == 3
    assert "series-b" not in picture


def test_two_columns_are_percentages() -> None:
    columns = [[1, 1], [1, 2, 2, 2]]

    page = Page(histogram(columns, axis_for(columns), "tokens", "Lengths"))

    assert " %" in page.text
    assert {attributes.get("class") for _, attributes in page.tags} >= {"series-a", "series-b"}


def test_tooltips_are_escaped() -> None:
    points = [Point(x=0, y=0, hue=0, title="<script>alert(1)</script>"), Point(x=4, y=3, hue=99, title="other")]

    page = Page(scatter(points, ((0, 0), (4, 3)), "Map"))

    dots = [attributes for tag, attributes in page.tags if tag == "circle"]
    assert [(dot["class"], dot["cx"], dot["cy"]) for dot in dots] == [("h0", "13.3", "470.0"), ("hx", "626.7", "10.0")]
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<script>" in page.text


def test_a_single_point_has_a_margin() -> None:
    assert box_around([(2.0, 2.0)]) == ((1.5, 1.5), (2.5, 2.5))
