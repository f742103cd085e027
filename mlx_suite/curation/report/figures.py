"""All figures of one dataset, and what has to be alike in two that are compared."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from mlx_suite.curation.dataset import object_in
from mlx_suite.curation.provenance import Provenance, provenance_of
from mlx_suite.curation.report.diversity import Diversity, diversity_of, sample_rows, sizes_for
from mlx_suite.curation.report.embedding_map import EmbeddingMap, map_of
from mlx_suite.curation.report.funnel import Cost, Funnel, costs_of, drawn_with, funnel_of, steered_to
from mlx_suite.curation.report.labels import (
    Confidence,
    CrossTable,
    confidences_of,
    counts_of,
    cross_table,
    dimensions_of,
    order_of,
    scores_of,
)
from mlx_suite.curation.report.lengths import WORDS, Shape, Spread, common_unit, lengths_of, shape_of
from mlx_suite.curation.report.neighbourhood import Neighbourhood, neighbourhoods_of
from mlx_suite.curation.report.quotas import Quota, quotas_of
from mlx_suite.curation.report.source import Source

Tell = Callable[[int, int], None]
"""Is told how much of all work is done, and how much there is."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What all datasets of one report are measured by."""

    unit: str
    """Of lengths: tokens or words."""
    dimensions: tuple[str, ...]
    """Of tags."""
    labels: dict[str, tuple[str, ...]]
    """By dimension, in the order in which they are shown."""
    sizes: tuple[int, ...]
    """Rows of the samples of which diversity is measured. None of a dataset of one row."""
    compares_vectors: bool
    """Whether every dataset has embeddings, of one model."""
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One dataset."""

    name: str
    rows: int
    funnel: Funnel | None
    """None where it is not known what was left out."""
    steered: tuple[Cost, ...]
    """By what rows were steered to."""
    drawn: tuple[Cost, ...]
    """By the settings rows were drawn with; none where there is one setting only."""
    lengths: dict[str, list[float]]
    """By part, of every row that has it."""
    shape: Shape
    counts: dict[str, tuple[int, ...]]
    """By dimension, rows of each of the frame's labels."""
    cross: CrossTable | None
    """None without categories or difficulties."""
    confidences: tuple[Confidence, ...]
    scores: dict[str, Spread]
    quotas: tuple[Quota, ...]
    diversity: tuple[Diversity, ...]
    neighbourhoods: tuple[Neighbourhood, ...]
    map: EmbeddingMap | None
    provenance: Provenance
    notes: tuple[str, ...]


def frame_of(sources: Sequence[Source]) -> Frame:
    """Look at all datasets at once."""
    datasets = [source.rows for source in sources]
    dimensions = dimensions_of(datasets)
    shared, notes = _vectors_agree(sources)
    unit = common_unit(datasets)
    if len(sources) > 1 and unit == WORDS and all("answer_tokens" in row for rows in datasets for row in rows[:1]):
        notes.append("The datasets are of different models, whose tokens cannot be compared: lengths are in words.")
    return Frame(
        unit=unit,
        dimensions=dimensions,
        labels={name: order_of(name, datasets) for name in dimensions},
        sizes=sizes_for(min(map(len, datasets))),
        compares_vectors=shared,
        notes=tuple(notes),
    )


def figures_of(sources: Sequence[Source], frame: Frame, tell: Tell = lambda done, total: None) -> tuple[Figures, ...]:
    """Measure every dataset."""
    total = sum(len(sample_rows(len(source.rows), size)) for source in sources for size in frame.sizes)
    done = 0

    def one_more() -> None:
        nonlocal done
        done += 1
        tell(done, total)

    vectors = [source.vectors if frame.compares_vectors else None for source in sources]
    known = [each for each in vectors if each is not None]
    maps = map_of(known) if known and min(map(len, known)) > 1 else [None] * len(sources)
    found = []
    for source, own, own_map in zip(sources, vectors, maps, strict=True):
        rows, rejected = source.rows, source.rejected or ()
        has_cross = {"category", "difficulty"} <= set(frame.dimensions)
        drawn = costs_of(rows, rejected, drawn_with)
        found.append(
            Figures(
                name=source.name,
                rows=len(rows),
                funnel=None if source.rejected is None else funnel_of(rows, rejected, source.manifest),
                steered=costs_of(rows, rejected, partial(steered_to, object_in(source.manifest, "quotas"))),
                drawn=drawn if len(drawn) > 1 else (),
                lengths=lengths_of(rows, frame.unit),
                shape=shape_of(rows),
                counts={name: counts_of(rows, name, labels) for name, labels in frame.labels.items()},
                cross=cross_table(rows, frame.labels["category"], frame.labels["difficulty"]) if has_cross else None,
                confidences=confidences_of(rows, frame.dimensions),
                scores=scores_of(rows),
                quotas=quotas_of(rows, source.manifest),
                diversity=tuple(diversity_of(rows, own, size, one_more) for size in frame.sizes),
                neighbourhoods=neighbourhoods_of(rows, own, frame.sizes[-1]) if frame.sizes else (),
                map=own_map,
                provenance=provenance_of(source.name, rows, source.manifest, source.accepted_file),
                notes=source.notes,
            )
        )
    return tuple(found)


def _vectors_agree(sources: Sequence[Source]) -> tuple[bool, list[str]]:
    """Whether the embeddings of all datasets can be compared, and a note where there are some and they cannot."""
    with_vectors = [source for source in sources if source.vectors is not None]
    if not with_vectors:
        return False, []
    if len(with_vectors) < len(sources):
        return False, [f"Only {with_vectors[0].name} has embeddings: meaning is not compared, words are."]
    models = {str(row.get("model")) for source in sources for row in source.rows}
    widths = {source.vectors.shape[1] for source in sources if source.vectors is not None}
    if len(sources) > 1 and (len(widths) > 1 or len(models) > 1):
        return False, ["The embeddings are of different models: meaning is not compared, words are."]
    return True, []
