"""What a report is made of: rows, and of a Magpie run also what it rejected, its manifest and its embeddings.

A part that is missing, or cannot be right, is left out with a note: a report is wanted of old and half-done folders
too.

Shapes: N rows, d dimensions of an embedding.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlx_suite.curation.collection import read_collection
from mlx_suite.data.read.sources import ACCEPTED

Record = Mapping[str, Any]
Vectors = npt.NDArray[np.float32]

REJECTED = "rejected.jsonl"
MANIFESTS = ("filter.json", "manifest.json", "settings.json")
"""What says where rows come from: of a filtered folder, of a run, of a run before there were manifests."""
EMBEDDINGS = "embeddings.npy"


@dataclass(frozen=True, kw_only=True)
class Source:
    """One dataset."""

    name: str
    rows: Sequence[Record]
    """Each with `messages`; of a run, those it accepted."""
    rejected: Sequence[Record] | None = None
    """None where it is not known what was left out."""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    """Settings, versions, counts and checksums; empty for data that is not of a run."""
    vectors: Vectors | None = None
    """(N, d), of length 1; None where there are none."""
    notes: tuple[str, ...] = ()
    """What was left out, and why."""
    accepted_file: Path | None = None
    """Of a run."""


def read_source(place: str | Path) -> Source:
    """Read the folder of a run, or any dataset that can be trained on.

    Raises UserError where the rows themselves cannot be read.
    """
    collection = read_collection(place)
    folder = collection.folder
    if folder is None:
        return Source(name=collection.name, rows=collection.rows)
    notes: list[str] = []
    return Source(
        name=collection.name,
        rows=collection.rows,
        rejected=_read_rejected(folder / REJECTED, notes),
        manifest=_read_manifest(folder, notes),
        vectors=_read_vectors(folder / EMBEDDINGS, len(collection.rows), notes),
        notes=tuple(notes),
        accepted_file=folder / ACCEPTED,
    )


def turns_of(record: Record, role: str) -> list[str]:
    """What was said in this role, in order."""
    return [str(turn.get("content") or "") for turn in record["messages"] if turn.get("role") == role]


def object_in(holder: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """What a record or a manifest holds under a key, if it is an object; else an empty one."""
    value = holder.get(key)
    return value if isinstance(value, Mapping) else {}


def number_in(holder: Mapping[str, Any], key: str) -> float | None:
    """What a record or a manifest holds under a key, if it is a number that can be added up."""
    value = holder.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def instruction_of(record: Record) -> str:
    """What the user said first; empty where the user said nothing."""
    return next(iter(turns_of(record, "user")), "")


def answer_of(record: Record) -> str:
    """What the assistant said last; empty where it said nothing."""
    return next(iter(turns_of(record, "assistant")[::-1]), "")


def _read_rejected(path: Path, notes: list[str]) -> tuple[Record, ...] | None:
    if not path.is_file():
        notes.append(f"There is no {REJECTED}: what was left out, and what it cost, is not known.")
        return None
    bad: list[int] = []
    rows = tuple(_records(path, bad))
    if bad:
        shown = ", ".join(map(str, bad[:5])) + (" …" if len(bad) > 5 else "")
        holds = "line holds no row and is" if len(bad) == 1 else "lines hold no row and are"
        notes.append(f"{REJECTED}: {len(bad):,} {holds} not counted (line {shown}).")
    return rows


def _records(path: Path, bad: list[int]) -> Iterator[Record]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                record = json.loads(line)
                assert isinstance(record["messages"], list) and all(isinstance(t, dict) for t in record["messages"])
            except (ValueError, LookupError, TypeError, AssertionError, RecursionError):
                if line.endswith(b"\n"):  # a run may be writing the last one
                    bad.append(number)
                continue
            yield record


def _read_manifest(folder: Path, notes: list[str]) -> Mapping[str, Any]:
    path = next((folder / name for name in MANIFESTS if (folder / name).is_file()), None)
    if path is None:
        notes.append("There is no manifest.json: which model and which settings made the rows is not known.")
        return {}
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        notes.append(f"{path.name} cannot be read: which settings made the rows is not known.")
        return {}
    return value


def _read_vectors(path: Path, rows: int, notes: list[str]) -> Vectors | None:
    if not path.is_file():
        return None
    try:
        vectors = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError):
        notes.append(f"{EMBEDDINGS} cannot be read: there is no map.")
        return None
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or len(vectors) != rows or not vectors.shape[1]:
        shape = " x ".join(map(str, vectors.shape))
        notes.append(f"{EMBEDDINGS} holds {shape} values for {rows:,} rows, so it is not of these: there is no map.")
        return None
    vectors = vectors.astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or not lengths.all():
        notes.append(f"{EMBEDDINGS} holds vectors without a direction: there is no map.")
        return None
    unit: Vectors = vectors / lengths
    return unit
