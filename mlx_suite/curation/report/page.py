"""The page: one HTML file that is read without a network, and without a script.

Whatever a model or a user wrote is escaped by the template. A policy in the page's head forbids it to load anything at
all, should something ever slip through.
"""

import re
from collections.abc import Sequence
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mlx_suite.curation.report.charts import HUES
from mlx_suite.curation.report.comparison import Overlap
from mlx_suite.curation.report.diversity import MEASURES
from mlx_suite.curation.report.figures import Figures, Frame
from mlx_suite.curation.report.funnel import DONE, FILTERED
from mlx_suite.curation.report.glance import diversity_lines, glance_of, shape_lines, written
from mlx_suite.curation.report.panels import bars_of, distance_charts, heat_maps, length_charts, map_panel
from mlx_suite.curation.report.samples import rejected_samples, samples_of
from mlx_suite.curation.report.source import Source

GENERATOR = "mlx-suite magpie report"
"""Stands in the head of every page, so that one is known when it is to be replaced."""
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""What HTML does not allow, or nothing can show."""


def render_page(
    sources: Sequence[Source], figures: Sequence[Figures], frame: Frame, overlap: Overlap | None, samples: int
) -> str:
    """The page of one dataset or two, always the same for the same rows."""
    template = _environment().get_template("page.html.jinja")
    page = template.render(
        generator=GENERATOR,
        measures=MEASURES,
        stages={**DONE, **FILTERED},
        hues=HUES,
        sources=sources,
        figures=figures,
        frame=frame,
        overlap=overlap,
        letters="AB",
        glance=glance_of(figures, frame),
        shape=shape_lines(figures),
        lengths=length_charts(figures, frame),
        bars={name: bars_of(figures, frame, name) for name in frame.dimensions},
        heat=heat_maps(figures) if figures[0].cross else (),
        map=map_panel(sources, figures, frame),
        distances=distance_charts(figures),
        diversity=[diversity_lines(figures, place) for place in range(len(frame.sizes))],
        samples=[samples_of(source.rows, samples) for source in sources],
        rejected=[rejected_samples(source.rejected or (), source.rows) for source in sources],
        notes=(*frame.notes, *(f"{each.name}: {note}" for each in figures for note in each.notes)),
    )
    return _NO_TEXT.sub("\ufffd", page.replace("\r\n", "\n").replace("\r", "\n"))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mlx_suite.curation.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"form": _form, "percent": lambda share: _form(share, ".1%"), "words": _words}
    environment.globals["style"] = Markup(environment.get_template("style.css").render(hues=HUES))
    return environment


def _form(value: float | None, form: str = ",") -> str:
    return written(value, form)


def _words(name: str) -> str:
    """`near_duplicate` as it is said."""
    return name.replace("_", " ")
