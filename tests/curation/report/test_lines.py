"""Line charts: every point, its deviation, and names that do not cover each other."""

import re

from mlx_suite.curation.report.lines import LABEL_GAP, Line, LinePoint, line_chart

LINES = [
    Line(name="a <b>", hue=0, points=(LinePoint(x=0, y=10), LinePoint(x=10, y=42, sd=3))),
    Line(name="c", hue=1, points=(LinePoint(x=0, y=12), LinePoint(x=10, y=42)), dashed=True),
    Line(name="d", hue=99, points=(LinePoint(x=0, y=0), LinePoint(x=10, y=0.5))),
]


def chart() -> str:
    return line_chart(LINES, x_label="steps", y_label="% right", title="accuracy")


def test_points_have_tooltips_and_deviations_have_bars() -> None:
    svg = chart()
    assert svg.count("<circle") == 6
    assert "<title>a &lt;b&gt;: 10, 42 ± 3</title>" in svg
    assert len(re.findall(r'd="M[\d.]+ [\d.]+V[\d.]+"', svg)) == 1
    assert svg.count("stroke-dasharray") == 1


def test_the_axis_has_round_marks_above_the_highest_point() -> None:
    marks = re.findall(r'text-anchor="end">([\d.]+)<', chart())
    assert marks == ["0", "20", "40", "60", "80"]


def test_names_keep_apart_and_inside_the_chart() -> None:
    many = [Line(name=str(n), hue=n, points=(LinePoint(x=0, y=1), LinePoint(x=1, y=0.01 * n))) for n in range(9)]
    svg = line_chart(many, x_label="", y_label="", title="")
    heights = sorted(float(y) for y in re.findall(r'<text class="l\d" x="[\d.]+" y="([\d.]+)"', svg))
    assert len(heights) == 9
    assert all(after - before >= LABEL_GAP - 0.2 for before, after in zip(heights, heights[1:], strict=False))
    assert heights[-1] < 290


def test_a_single_point_is_drawn_in_the_middle() -> None:
    svg = line_chart([Line(name="a", hue=0, points=(LinePoint(x=3, y=1),))], x_label="", y_label="", title="")
    assert 'cx="223.0"' in svg
