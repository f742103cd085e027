"""The figures a reader wants first, each of one dataset or of two beside each other."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mlx_suite.curation.report.diversity import MEASURES
from mlx_suite.curation.report.figures import Figures, Frame
from mlx_suite.curation.report.lengths import spread_of


@dataclass(frozen=True, kw_only=True)
class Line:
    """One figure."""

    title: str
    meaning: str
    values: tuple[float | None, ...]
    """Of each dataset; None where it has none."""
    form: str
    """How a value is written, for `format`."""
    spreads: tuple[float | None, ...] = ()
    """Standard deviation between samples, where there are several."""

    @property
    def texts(self) -> tuple[str, ...]:
        """The values as they are written."""
        return tuple(written(value, self.form) for value in self.values)

    @property
    def difference(self) -> str:
        """The second less the first: of shares in points, empty where it does not say anything."""
        if len(self.values) < 2 or None in self.values:
            return ""
        first, second = self.values
        assert first is not None and second is not None
        apart = second - first
        if self.form.endswith("%"):
            return f"{written(100 * apart, '+.1f')} points"
        return written(apart, "+" + self.form)


def written(value: float | None, form: str) -> str:
    """A number with the sign for minus, and without a sign where nothing but zeros is left of it."""
    if value is None:
        return "none"
    text = format(value, form)
    return text.replace("-", "−") if set(text) & set("123456789") else text.lstrip("+-")


def glance_of(figures: Sequence[Figures], frame: Frame) -> tuple[Line, ...]:
    """Rows, yield and cost, lengths, and what the largest samples say of diversity."""
    lines = [
        _line(figures, "rows", "", ",.0f", lambda f: f.rows),
        _line(figures, "yield", "accepted of all rows asked for", ".1%", _yield),
        _line(
            figures,
            "tokens per accepted row",
            "written, those of rejected rows included",
            ",.1f",
            lambda f: f.funnel.tokens_per_row if f.funnel and f.funnel.tokens else None,
        ),
        _line(
            figures, "seconds per accepted row", "", ",.3g", lambda f: f.funnel.seconds_per_row if f.funnel else None
        ),
        _line(figures, "instruction", f"{frame.unit}, the median", ",.0f", lambda f: _median(f, "instruction")),
        _line(figures, "answer", f"{frame.unit}, the median", ",.0f", lambda f: _median(f, "answer")),
    ]
    names = ("near_repeats", "cosine_distance" if frame.compares_vectors else "jaccard_distance", "category_entropy")
    lines += [line for line in diversity_lines(figures) if any(line.title == MEASURES[name].title for name in names)]
    return tuple(line for line in lines if any(value is not None for value in line.values))


def diversity_lines(figures: Sequence[Figures], place: int = -1) -> tuple[Line, ...]:
    """Every measure at one of the frame's sizes, the largest unless another place is given."""
    if not all(each.diversity for each in figures):
        return ()
    at = [each.diversity[place] for each in figures]

    def lines() -> Iterator[Line]:
        for name, measure in MEASURES.items():
            estimates = [each.estimates.get(name) for each in at]
            if any(estimates):
                yield Line(
                    title=measure.title,
                    meaning=measure.meaning,
                    values=tuple(None if each is None else each.mean for each in estimates),
                    spreads=tuple(None if each is None else each.spread for each in estimates),
                    form=measure.form,
                )

    return tuple(lines())


def shape_lines(figures: Sequence[Figures]) -> tuple[Line, ...]:
    """Shares of rows that have more than one line, code, several turns."""

    def share(title: str, count: Callable[[Figures], int]) -> Line:
        return _line(figures, title, "", ".1%", lambda f: count(f) / f.rows if f.rows else None)

    lines = (
        share("instructions of several lines", lambda f: f.shape.multi_line_instructions),
        share("answers of several lines", lambda f: f.shape.multi_line_answers),
        share("with a block of code", lambda f: f.shape.with_code),
        share("with several turns", lambda f: f.shape.multi_turn),
        share("with a system text", lambda f: f.shape.with_system),
        share("without an answer", lambda f: f.shape.without_answer),
        share("cleaned by the sanitiser", lambda f: f.shape.cleaned),
    )
    return (*lines[:2], *(line for line in lines[2:] if any(line.values)))


def _line(
    figures: Sequence[Figures], title: str, meaning: str, form: str, value: Callable[[Figures], float | None]
) -> Line:
    return Line(title=title, meaning=meaning, values=tuple(map(value, figures)), form=form)


def _yield(figures: Figures) -> float | None:
    return figures.rows / figures.funnel.asked if figures.funnel and figures.funnel.asked else None


def _median(figures: Figures, part: str) -> float | None:
    spread = spread_of(figures.lengths[part])
    return None if spread is None else spread.median
