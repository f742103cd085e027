"""The input of a report: rows, and for a Magpie run also its rejected rows, manifest and embeddings.

A part that is missing or invalid is left out with a note, so that old and unfinished folders can be reported on.

Shapes: N rows, d dimensions of an embedding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlx_suite.curation.dataset import (
    EMBEDDINGS_FILE,
    REJECTED_FILE,
    Collection,
    read_collection,
    read_embeddings,
    read_manifest,
    read_rejected,
)
from mlx_suite.curation.rows import Record
from mlx_suite.data.read.sources import ACCEPTED_FILE
from mlx_suite.runtime.errors import UserError

UnitVectors = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Source:
    """One dataset to report on."""

    name: str
    rows: Sequence[Record]
    """Rows with `messages`; of a run, the accepted ones."""
    rejected: Sequence[Record] | None = None
    """Rejected rows; None if unknown."""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    """Settings, versions, counts and checksums; empty for data that is not from a run."""
    vectors: UnitVectors | None = None
    """Embeddings (N, d) of length 1; None if there are none."""
    notes: tuple[str, ...] = ()
    """What was left out, and why."""
    accepted_file: Path | None = None
    """The file of a run's rows."""


def read_source(place: str | Path) -> Source:
    """Read a run folder, or any dataset that can be trained on.

    Raises UserError if the rows themselves cannot be read.
    """
    collection = read_collection(place)
    folder = collection.folder
    if folder is None:
        return Source(name=collection.name, rows=collection.rows)
    notes: list[str] = []
    return Source(
        name=collection.name,
        rows=collection.rows,
        rejected=_rejected(folder, notes),
        manifest=_manifest(folder, notes),
        vectors=_unit_vectors(collection, notes),
        notes=tuple(notes),
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
