"""All figures of a dataset, and what two compared datasets must have in common.

A missing or invalid part of a run folder is left out with a note, so old and unfinished folders have reports too.

Shapes: N rows, d dimensions of an embedding.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mlx_suite.curation.dataset import (
    EMBEDDINGS_FILE,
    REJECTED_FILE,
    Collection,
    object_in,
    read_collection,
    read_embeddings,
    read_manifest,
    read_rejected,
)
from mlx_suite.curation.provenance import Provenance, provenance_of
from mlx_suite.curation.report.counts import (
    WORDS,
    Confidence,
    CrossTable,
    Quantiles,
    RowFeatures,
    common_unit,
    confidences_of,
    counts_of,
    cross_table,
    dimensions_of,
    features_of,
    lengths_of,
    order_of,
    scores_of,
)
from mlx_suite.curation.report.diversity import Diversity, diversity_of
from mlx_suite.curation.report.embedding_map import EmbeddingMap, map_of
from mlx_suite.curation.report.funnel import (
    Funnel,
    GroupCost,
    QuotaBar,
    costs_of,
    drawn_with,
    funnel_of,
    quotas_of,
    steered_to,
)
from mlx_suite.curation.report.neighbours import Neighbourhood, UnitVectors, neighbourhoods_of, sample_rows, sizes_for
from mlx_suite.curation.rows import Record
from mlx_suite.curation.set_aside import SetAside, set_aside_lines
from mlx_suite.data.read.sources import ACCEPTED_FILE
from mlx_suite.runtime.errors import UserError

OnProgress = Callable[[int, int], None]
"""Called with the number of samples measured so far and the total."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One dataset to report on."""

    name: str
    rows: Sequence[Record]
    """Rows with `messages`; for a run, the accepted ones."""
    rejected: Sequence[Record] | None = None
    """Rejected rows; None if unknown."""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    """Settings, versions, counts and checksums; empty for data that is not from a run."""
    vectors: UnitVectors | None = None
    """Embeddings (N, d) of length 1; None if there are none."""
    notes: tuple[str, ...] = ()
    """Parts left out of the report, and why."""
    accepted_file: Path | None = None
    """The file of a run's rows."""
    set_aside: tuple[SetAside, ...] = ()
    """Rows that cannot be read."""


def read_source(place: str | Path, *, strict: bool = False, split: str = "") -> Source:
    """Read a run folder, or any dataset that can be trained on.

    Rows that cannot be read are left out with a note, unless `strict`. Raises UserError if none can be read.
    """
    collection = read_collection(place, strict=strict, split=split)
    folder = collection.folder
    notes: list[str] = []
    if collection.set_aside:
        notes.append(" ".join(set_aside_lines(collection.set_aside, collection.total)))
    if folder is None:
        return Source(name=collection.name, rows=collection.rows, notes=tuple(notes), set_aside=collection.set_aside)
    return Source(
        name=collection.name,
        rows=collection.rows,
        rejected=_rejected(folder, notes),
        manifest=_manifest(folder, notes),
        vectors=_unit_vectors(collection, notes),
        notes=tuple(notes),
        set_aside=collection.set_aside,
        accepted_file=folder / ACCEPTED_FILE,
    )


def _rejected(folder: Path, notes: list[str]) -> tuple[Record, ...] | None:
    if not (folder / REJECTED_FILE).is_file():
        notes.append(f"There is no {REJECTED_FILE}: rejected rows and their cost are unknown.")
        return None
    bad: list[int] = []
    rows = tuple(read_rejected(folder, bad))
    if bad:
        shown = ", ".join(map(str, bad[:5])) + (" …" if len(bad) > 5 else "")
        lines = "line is not a row and is" if len(bad) == 1 else "lines are not rows and are"
        notes.append(f"{REJECTED_FILE}: {len(bad):,} {lines} not counted (line {shown}).")
    return rows


def _manifest(folder: Path, notes: list[str]) -> Mapping[str, Any]:
    name, manifest = read_manifest(folder)
    if not name:
        notes.append("There is no manifest.json: the model and the settings of the run are unknown.")
    elif not manifest:
        notes.append(f"{name} cannot be read: the settings of the run are unknown.")
    return manifest


def _unit_vectors(collection: Collection, notes: list[str]) -> UnitVectors | None:
    try:
        embeddings = read_embeddings(collection)
    except UserError as error:
        notes.append(f"{EMBEDDINGS_FILE} is ignored. {error.what}.")
        return None
    if embeddings is None:
        return None
    vectors = embeddings.astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or not lengths.all():
        notes.append(f"{EMBEDDINGS_FILE} is ignored. It contains zero vectors, NaN or inf.")
        return None
    unit: UnitVectors = vectors / lengths
    return unit


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Units, dimensions and labels common to all datasets of a report."""

    unit: str
    """Unit of lengths: tokens or words."""
    dimensions: tuple[str, ...]
    """Dimensions of the tags."""
    labels: dict[str, tuple[str, ...]]
    """Labels by dimension, in the order of the page."""
    sizes: tuple[int, ...]
    """Rows per sample; empty if a dataset has only one row."""
    compares_vectors: bool
    """True if all datasets have embeddings of the same model."""
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class DatasetFigures:
    """All figures of one dataset."""

    name: str
    rows: int
    funnel: Funnel | None
    """None if the rejected rows are unknown."""
    steered: tuple[GroupCost, ...]
    """Costs by steering value."""
    drawn: tuple[GroupCost, ...]
    """Costs by sampling settings; empty if all rows have the same."""
    lengths: dict[str, list[float]]
    """Lengths by part, of each row that has it."""
    features: RowFeatures
    counts: dict[str, tuple[int, ...]]
    """Number of rows with each of the frame's labels, by dimension."""
    cross: CrossTable | None
    """Category by difficulty; None without these tags."""
    confidences: tuple[Confidence, ...]
    scores: dict[str, Quantiles]
    quotas: tuple[QuotaBar, ...]
    diversity: tuple[Diversity, ...]
    neighbourhoods: tuple[Neighbourhood, ...]
    map: EmbeddingMap | None
    provenance: Provenance
    set_aside: tuple[SetAside, ...]
    """Rows that cannot be read."""
    notes: tuple[str, ...]


def frame_of(sources: Sequence[Source]) -> Frame:
    """Determine the common frame of all datasets."""
    datasets = [source.rows for source in sources]
    dimensions = dimensions_of(datasets)
    shared, notes = _vectors_agree(sources)
    unit = common_unit(datasets)
    if len(sources) > 1 and unit == WORDS and all("answer_tokens" in row for rows in datasets for row in rows[:1]):
        notes.append(
            "The datasets come from different models: their token counts are not comparable, so lengths are in words."
        )
    return Frame(
        unit=unit,
        dimensions=dimensions,
        labels={name: order_of(name, datasets) for name in dimensions},
        sizes=sizes_for(min(map(len, datasets))),
        compares_vectors=shared,
        notes=tuple(notes),
    )


def figures_of(
    sources: Sequence[Source], frame: Frame, on_progress: OnProgress = lambda done, total: None
) -> tuple[DatasetFigures, ...]:
    """Measure every dataset."""
    total = sum(len(sample_rows(len(source.rows), size)) for source in sources for size in frame.sizes)
    done = 0

    def on_sample() -> None:
        nonlocal done
        done += 1
        on_progress(done, total)

    vectors = [source.vectors if frame.compares_vectors else None for source in sources]
    known = [each for each in vectors if each is not None]
    maps = map_of(known) if known and min(map(len, known)) > 1 else [None] * len(sources)
    figures = []
    for source, own, own_map in zip(sources, vectors, maps, strict=True):
        rows, rejected = source.rows, source.rejected or ()
        has_cross = {"category", "difficulty"} <= set(frame.dimensions)
        drawn = costs_of(rows, rejected, drawn_with)
        figures.append(
            DatasetFigures(
                name=source.name,
                rows=len(rows),
                funnel=None if source.rejected is None else funnel_of(rows, rejected, source.manifest),
                steered=costs_of(rows, rejected, partial(steered_to, object_in(source.manifest, "quotas"))),
                drawn=drawn if len(drawn) > 1 else (),
                lengths=lengths_of(rows, frame.unit),
                features=features_of(rows),
                counts={name: counts_of(rows, name, labels) for name, labels in frame.labels.items()},
                cross=cross_table(rows, frame.labels["category"], frame.labels["difficulty"]) if has_cross else None,
                confidences=confidences_of(rows, frame.dimensions),
                scores=scores_of(rows),
                quotas=quotas_of(rows, source.manifest),
                diversity=tuple(diversity_of(rows, own, size, on_sample) for size in frame.sizes),
                neighbourhoods=neighbourhoods_of(rows, own, frame.sizes[-1]) if frame.sizes else (),
                map=own_map,
                provenance=provenance_of(source.name, rows, source.manifest, source.accepted_file),
                set_aside=source.set_aside,
                notes=source.notes,
            )
        )
    return tuple(figures)


def _vectors_agree(sources: Sequence[Source]) -> tuple[bool, list[str]]:
    """Whether the embeddings of all datasets are comparable, and a note if some are not."""
    with_vectors = [source for source in sources if source.vectors is not None]
    if not with_vectors:
        return False, []
    if len(with_vectors) < len(sources):
        return False, [f"Only {with_vectors[0].name} has embeddings: rows are compared by words only."]
    models = {str(row.get("model")) for source in sources for row in source.rows}
    widths = {source.vectors.shape[1] for source in sources if source.vectors is not None}
    if len(sources) > 1 and (len(widths) > 1 or len(models) > 1):
        return False, ["The embeddings come from different models: rows are compared by words only."]
    return True, []
