"""The parts of the page that are drawn: charts, maps, heat maps and bars, ready to be put into the template."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mlx_suite.curation.dataset import instruction_of
from mlx_suite.curation.report.axis import Axis, axis_for, share_axis
from mlx_suite.curation.report.charts import HUES, Point, box_around, histogram, scatter
from mlx_suite.curation.report.figures import Figures, Frame
from mlx_suite.curation.report.labels import UNTAGGED, label_of
from mlx_suite.curation.report.lengths import PARTS, Spread, spread_of
from mlx_suite.curation.report.nearest import COSINE
from mlx_suite.curation.report.source import Source

TITLE = 60
"""Characters of an instruction that a pointer on its dot shows."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One histogram, and its columns in short."""

    title: str
    svg: Markup
    spreads: tuple[Spread | None, ...]
    form: str
    """Of the numbers, for `format`."""


@dataclass(frozen=True, kw_only=True)
class Hue:
    """A line of the map's legend."""

    label: str
    number: int
    """Of the colour, from 0; HUES for grey."""
    counts: tuple[int, ...]
    """Of rows of each dataset, drawn or not."""


@dataclass(frozen=True, kw_only=True)
class MapPanel:
    """All maps, on the same axes."""

    svgs: tuple[Markup, ...]
    hues: tuple[Hue, ...]
    """None where rows have no categories."""
    explained: tuple[float, float]
    drawn: tuple[int, ...]
    """Dots of each map."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One label."""

    label: str
    counts: tuple[int, ...]
    shares: tuple[float, ...]
    """Of all rows of each dataset."""
    widths: tuple[float, ...]
    """0 to 100, of the longest bar of the dimension."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One field of a heat map."""

    count: int
    shade: float
    """0 to 1."""


def length_charts(figures: Sequence[Figures], frame: Frame) -> tuple[Chart, ...]:
    """Of instructions and of answers."""
    charts = []
    for part in PARTS:
        columns = [each.lengths[part] for each in figures]
        if any(columns):
            axis = axis_for([column for column in columns if column])
            charts.append(_chart(f"{part.capitalize()}s", columns, axis, frame.unit, ",.0f"))
    return tuple(charts)


def distance_charts(figures: Sequence[Figures]) -> tuple[Chart, ...]:
    """To the nearest other row, in meaning where there are embeddings, and in words."""
    charts = []
    for each in zip(*(each.neighbourhoods for each in figures), strict=True):
        columns = [neighbourhood.distances for neighbourhood in each]
        kind = each[0].kind
        title = "In meaning" if kind == COSINE else "In words"
        label = f"1 − {kind} {'of embeddings' if kind == COSINE else 'similarity'}"
        charts.append(_chart(title, columns, share_axis(columns), label, ".4f" if kind == COSINE else ".3f"))
    return tuple(charts)


def bars_of(figures: Sequence[Figures], frame: Frame, dimension: str) -> tuple[Bar, ...]:
    """Every label of a dimension."""
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


def heat_maps(figures: Sequence[Figures]) -> tuple[tuple[tuple[Cell, ...], ...], ...]:
    """Of each dataset, cells by category and difficulty, shaded by the share of its rows, all on one scale."""
    tables = [each.cross.counts if each.cross else () for each in figures]
    totals = [max(each.rows, 1) for each in figures]
    most = max((count / total for table, total in zip(tables, totals, strict=True) for row in table for count in row))
    return tuple(
        tuple(tuple(Cell(count=count, shade=round(count / total / (most or 1), 3)) for count in row) for row in table)
        for table, total in zip(tables, totals, strict=True)
    )


def map_panel(sources: Sequence[Source], figures: Sequence[Figures], frame: Frame) -> MapPanel | None:
    """None where there are no embeddings that can be compared."""
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
        svgs.append(Markup(scatter(points, box, f"Map of the embeddings of {source.name}")))
    return MapPanel(
        svgs=tuple(svgs), hues=hues, explained=known[0].explained, drawn=tuple(len(each.chosen) for each in known)
    )


def _chart(title: str, columns: Sequence[Sequence[float]], axis: Axis, label: str, form: str) -> Chart:
    svg = Markup(histogram(columns, axis, label, title))
    return Chart(title=title, svg=svg, spreads=tuple(map(spread_of, columns)), form=form)


def _hues(sources: Sequence[Source]) -> tuple[Hue, ...]:
    """The most frequent categories have a colour of their own; the rest, and rows without one, are grey."""
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
