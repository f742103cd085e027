"""Line charts: every point, its deviation, and names that do not cover each other."""

import re
from xml.etree import ElementTree

from mlx_suite.curation.report.lines import LABEL_GAP, Line, LinePoint, line_chart
from mlx_suite.curation.report.report import standalone_svg

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


def marks_of(svg: str) -> list[str]:
    """The marks of the vertical axis, from below."""
    return re.findall(r'text-anchor="end">([^<]+)<', svg)


def test_a_logarithmic_axis_runs_between_marks_around_the_values() -> None:
    line = Line(name="a", hue=0, points=(LinePoint(x=1, y=30), LinePoint(x=64, y=40_000), LinePoint(x=8, y=0)))
    svg = line_chart([line], x_label="", y_label="", title="", log_x=True, log_y=True)
    assert marks_of(svg) == ["10", "100", "1,000", "10k", "100k"]
    places = [float(x) for x in re.findall(r'cx="([\d.]+)"', svg)]
    assert places[2] == round((places[0] + places[1]) / 2, 1)  # 8 is halfway from 1 to 64
    lowest = [float(y) for y in re.findall(r'cy="([\d.]+)"', svg)][2]
    assert lowest == 250


def test_an_axis_that_does_not_begin_at_zero_shows_small_differences() -> None:
    line = Line(name="a", hue=0, points=(LinePoint(x=1, y=1.63), LinePoint(x=2, y=1.64, sd=0.002)))
    svg = line_chart([line], x_label="", y_label="", title="", from_zero=False)
    assert marks_of(svg) == ["1.63", "1.635", "1.64", "1.645"]


def test_a_long_line_has_few_dots_and_marks() -> None:
    line = Line(name="a", hue=0, points=tuple(LinePoint(x=x, y=x) for x in range(0, 500, 5)))
    svg = line_chart([line], x_label="", y_label="", title="")
    assert svg.count("<circle") == 20
    assert svg.count('text-anchor="middle">') == 3 + 1  # 0, 200, 400 and the label


def test_an_svg_file_brings_its_namespace_and_colours() -> None:
    svg = standalone_svg(chart())
    assert svg.startswith('<svg xmlns="http://www.w3.org/2000/svg" class="lines"')
    assert svg.count("<svg") == 1 and "--h0:" in svg and "prefers-color-scheme: dark" in svg
    ElementTree.fromstring(svg)
