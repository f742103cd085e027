"""Summary lines of a report: one value per dataset, and the difference of two."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mlx_suite.curation.report.counts import quantiles_of
from mlx_suite.curation.report.diversity import MEASURES
from mlx_suite.curation.report.figures import DatasetFigures, Frame


@dataclass(frozen=True, kw_only=True)
class SummaryLine:
    """One figure for each dataset."""

    title: str
    meaning: str
    values: tuple[float | None, ...]
    """One value per dataset; None if it has none."""
    form: str
    """Format of a value, for `format`."""
    spreads: tuple[float | None, ...] = ()
    """Standard deviations between samples; None for a single sample."""

    @property
    def texts(self) -> tuple[str, ...]:
        """The formatted values."""
        return tuple(formatted(value, self.form) for value in self.values)

    @property
    def difference(self) -> str:
        """Second value minus first, in points for percentages; empty if a value is missing."""
        if len(self.values) < 2 or None in self.values:
            return ""
        first, second = self.values
        assert first is not None and second is not None
        difference = second - first
        if self.form.endswith("%"):
            return f"{formatted(100 * difference, '+.1f')} points"
        return formatted(difference, "+" + self.form)


def formatted(value: float | None, form: str) -> str:
    """A number with a typographic minus, and without a sign if it rounds to zero."""
    if value is None:
        return "none"
    text = format(value, form)
    return text.replace("-", "−") if set(text) & set("123456789") else text.lstrip("+-")


def summary_of(figures: Sequence[DatasetFigures], frame: Frame) -> tuple[SummaryLine, ...]:
    """Rows, yield, cost, lengths, and the diversity of the largest samples."""
    lines = [
        _line(figures, "rows", "", ",.0f", lambda f: f.rows),
        _line(figures, "yield", "accepted rows / generated rows", ".1%", _yield),
        _line(
            figures,
            "tokens per accepted row",
            "generated, including rejected rows",
            ",.1f",
            lambda f: f.funnel.tokens_per_row if f.funnel and f.funnel.tokens else None,
        ),
        _line(
            figures, "seconds per accepted row", "", ",.3g", lambda f: f.funnel.seconds_per_row if f.funnel else None
        ),
        _line(figures, "instruction length", f"median, in {frame.unit}", ",.0f", lambda f: _median(f, "instruction")),
        _line(figures, "response length", f"median, in {frame.unit}", ",.0f", lambda f: _median(f, "answer")),
    ]
    names = ("near_repeats", "cosine_distance" if frame.compares_vectors else "jaccard_distance", "category_entropy")
    lines += [line for line in diversity_lines(figures) if any(line.title == MEASURES[name].title for name in names)]
    return tuple(line for line in lines if any(value is not None for value in line.values))


def diversity_lines(figures: Sequence[DatasetFigures], place: int = -1) -> tuple[SummaryLine, ...]:
    """All measures at one of the frame's sample sizes, by default the largest."""
    if not all(each.diversity for each in figures):
        return ()
    at = [each.diversity[place] for each in figures]

    def lines() -> Iterator[SummaryLine]:
        for name, measure in MEASURES.items():
            estimates = [each.estimates.get(name) for each in at]
            if any(estimates):
                yield SummaryLine(
                    title=measure.title,
                    meaning=measure.meaning,
                    values=tuple(None if each is None else each.mean for each in estimates),
                    spreads=tuple(None if each is None else each.spread for each in estimates),
                    form=measure.form,
                )

    return tuple(lines())


def feature_lines(figures: Sequence[DatasetFigures]) -> tuple[SummaryLine, ...]:
    """Shares of rows with each feature; features that no row has are left out."""

    def share(title: str, count: Callable[[DatasetFigures], int]) -> SummaryLine:
        return _line(figures, title, "", ".1%", lambda f: count(f) / f.rows if f.rows else None)

    lines = (
        share("multi-line instruction", lambda f: f.features.multi_line_instructions),
        share("multi-line response", lambda f: f.features.multi_line_answers),
        share("with a code block", lambda f: f.features.with_code),
        share("with several turns", lambda f: f.features.multi_turn),
        share("with a system prompt", lambda f: f.features.with_system),
        share("without a response", lambda f: f.features.without_answer),
        share("changed by the sanitiser", lambda f: f.features.cleaned),
    )
    return (*lines[:2], *(line for line in lines[2:] if any(line.values)))


def _line(
    figures: Sequence[DatasetFigures],
    title: str,
    meaning: str,
    form: str,
    value: Callable[[DatasetFigures], float | None],
) -> SummaryLine:
    return SummaryLine(title=title, meaning=meaning, values=tuple(map(value, figures)), form=form)


def _yield(figures: DatasetFigures) -> float | None:
    return figures.rows / figures.funnel.asked if figures.funnel and figures.funnel.asked else None


def _median(figures: DatasetFigures, part: str) -> float | None:
    spread = quantiles_of(figures.lengths[part])
    return None if spread is None else spread.median
