"""Charts of the page, ready for the template: histograms, maps, heat maps and bars."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mlx_suite.curation.dataset import instruction_of
from mlx_suite.curation.report.counts import PARTS, UNTAGGED, Quantiles, label_of, quantiles_of
from mlx_suite.curation.report.figures import DatasetFigures, Frame, Source
from mlx_suite.curation.report.neighbours import COSINE
from mlx_suite.curation.report.svg import HUES, Axis, Point, axis_for, box_around, distance_axis, histogram, scatter

TITLE = 60
"""Characters of an instruction in the tooltip of its dot."""
_TITLES = {"instruction": "Instructions", "answer": "Responses"}


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One histogram, with the quantiles of its columns."""

    title: str
    svg: Markup
    spreads: tuple[Quantiles | None, ...]
    form: str
    """Format of the numbers, for `format`."""


@dataclass(frozen=True, kw_only=True)
class Hue:
    """One entry of the map's legend."""

    label: str
    number: int
    """Colour number from 0; HUES for grey."""
    counts: tuple[int, ...]
    """Rows of each dataset, drawn or not."""


@dataclass(frozen=True, kw_only=True)
class MapChart:
    """The maps of all datasets, on the same axes."""

    svgs: tuple[Markup, ...]
    hues: tuple[Hue, ...]
    """Legend; empty if rows have no categories."""
    explained: tuple[float, float]
    drawn: tuple[int, ...]
    """Number of dots on each map."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """The rows with one label."""

    label: str
    counts: tuple[int, ...]
    shares: tuple[float, ...]
    """Share of each dataset's rows."""
    widths: tuple[float, ...]
    """Width in percent of the longest bar of the dimension."""


def length_charts(figures: Sequence[DatasetFigures], frame: Frame) -> tuple[Chart, ...]:
    """Histograms of the lengths of instructions and responses."""
    charts = []
    for part in PARTS:
        columns = [each.lengths[part] for each in figures]
        if any(columns):
            axis = axis_for([column for column in columns if column])
            charts.append(_chart(_TITLES[part], columns, axis, frame.unit, ",.0f"))
    return tuple(charts)


def distance_charts(figures: Sequence[DatasetFigures]) -> tuple[Chart, ...]:
    """Histograms of the distance to the nearest other row, by embeddings (if there are any) and by words."""
    charts = []
    for each in zip(*(each.neighbourhoods for each in figures), strict=True):
        columns = [neighbourhood.distances for neighbourhood in each]
        kind = each[0].kind
        title = "By embeddings" if kind == COSINE else "By words"
        label = f"1 − {kind} similarity"
        charts.append(_chart(title, columns, distance_axis(columns), label, ".4f" if kind == COSINE else ".3f"))
    return tuple(charts)


def bars_of(figures: Sequence[DatasetFigures], frame: Frame, dimension: str) -> tuple[Bar, ...]:
    """One bar per label of a dimension."""
    totals = [max(each.rows, 1) for each in figures]
    counts = [each.counts[dimension] for each in figures]
    longest = max(count / total for column, total in zip(counts, totals, strict=True) for count in column)
    bars = []
    for place, label in enumerate(frame.labels[dimension]):
        own = tuple(column[place] for column in counts)
        shares = tuple(count / total for count, total in zip(own, totals, strict=True))
        widths = tuple(round(100 * share / longest, 1) if longest else 0.0 for share in shares)
        bars.append(Bar(label=label, counts=own, shares=shares, widths=widths))
    return tuple(bars)


def heat_maps(figures: Sequence[DatasetFigures]) -> tuple[tuple[tuple[tuple[int, float], ...], ...], ...]:
    """For each dataset, (rows, shade from 0 to 1) by category and difficulty; shades are on a common scale."""
    tables = [each.cross.counts if each.cross else () for each in figures]
    totals = [max(each.rows, 1) for each in figures]
    most = max((count / total for table, total in zip(tables, totals, strict=True) for row in table for count in row))
    return tuple(
        tuple(tuple((count, round(count / total / (most or 1), 3)) for count in row) for row in table)
        for table, total in zip(tables, totals, strict=True)
    )


def map_chart(sources: Sequence[Source], figures: Sequence[DatasetFigures], frame: Frame) -> MapChart | None:
    """Embedding maps on shared axes; None unless all datasets have comparable embeddings."""
    maps = [each.map for each in figures]
    known = [each for each in maps if each is not None]
    if len(known) < len(figures):
        return None
    hues = _hues(sources) if "category" in frame.dimensions else ()
    number_of = {hue.label: hue.number for hue in hues}
    box = box_around([(float(x), float(y)) for each in known for x, y in each.points])
    svgs = []
    for number, (source, own) in enumerate(zip(sources, known, strict=True)):
        points = []
        for at, (x, y) in zip(own.chosen, own.points, strict=True):
            row = source.rows[at]
            label = label_of(row, "category") or UNTAGGED
            hue = number_of.get(label, HUES) if hues else number
            text = " ".join(instruction_of(row).split())
            text = text if len(text) <= TITLE else text[:TITLE] + " …"
            points.append(Point(x=float(x), y=float(y), hue=hue, title=f"{label}: {text}" if hues else text))
        svgs.append(Markup(scatter(points, box, f"Embedding map of {source.name}")))
    return MapChart(
        svgs=tuple(svgs), hues=hues, explained=known[0].explained, drawn=tuple(len(each.chosen) for each in known)
    )


def _chart(title: str, columns: Sequence[Sequence[float]], axis: Axis, label: str, form: str) -> Chart:
    svg = Markup(histogram(columns, axis, label, title))
    return Chart(title=title, svg=svg, spreads=tuple(map(quantiles_of, columns)), form=form)


def _hues(sources: Sequence[Source]) -> tuple[Hue, ...]:
    """Colours for the most frequent categories; the rest, and rows without a category, are grey."""
    counted = [Counter(label_of(row, "category") or UNTAGGED for row in source.rows) for source in sources]
    total = sum(counted, Counter())
    labels = sorted((label for label in total if label != UNTAGGED), key=lambda label: (-total[label], label))
    if len(labels) > HUES:
        labels = labels[: HUES - 1]
    hues = [
        Hue(label=label, number=number, counts=tuple(counts[label] for counts in counted))
        for number, label in enumerate(labels)
    ]
    rest = tuple(sum(counts.values()) - sum(counts[label] for label in labels) for counts in counted)
    if any(rest):
        only_untagged = all(label in labels or label == UNTAGGED for label in total)
        hues.append(Hue(label=UNTAGGED if only_untagged else "other categories", number=HUES, counts=rest))
    return tuple(hues)
