"""The teacher's distributions on disk: for each trained token a sample, or the most probable tokens.

cache.json            what the cache was made of, and the checksums of its parts
00000-ids.npy, …      token ids, weights and entropies, in the order of the documents in 00000-documents.npy

A document is found by its tokens and loss mask, so batches, packing and seeds of a run may differ from those that the
cache was made with. A teacher, template or tokenizer may not: such a cache is refused. A killed `make_cache` resumes
after its last complete part.

Shapes: P trained positions, M targets of a batch, N draws, V vocabulary.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from mlx_suite.checkpoints.config_file import read_config
from mlx_suite.data.batch.batches import BucketedBatches
from mlx_suite.data.batch.rows import Document
from mlx_suite.finetune.prepare import PreparedRun
from mlx_suite.modeling.head import head_of
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import disk_errors, sha256_of, write_atomically
from mlx_suite.runtime.lock import folder_lock
from mlx_suite.runtime.resume import differences, facts_text, refuse_other, stored_facts
from mlx_suite.training.chunked_head import LogitRows, row_chunks, vocabulary_chunks
from mlx_suite.training.divergences import Softmax
from mlx_suite.transfer.distill.draws import SparseRecord, most_probable, systematic_draws
from mlx_suite.transfer.distill.settings import DistillSettings
from mlx_suite.transfer.distill.teacher import LoadedTeacher, load_teacher, refuse_other_vocabulary, refuse_unreadable

KIND = "mlx-suite distill cache"
INDEX = "cache.json"
PART_TOKENS = 2**15
"""Trained tokens of a part: 17 MB with 64 draws."""
ARRAYS = ("documents", "ids", "values", "entropy")
DOCUMENT = np.dtype([("key", "S32"), ("tokens", "<i8")])
OWN_FACTS = ("documents", "parts", "kind")
"""Entries of cache.json that a run does not compare."""


def key_of(tokens: npt.NDArray[Any], trained: npt.NDArray[Any]) -> bytes:
    """32 hexadecimal digits that identify a document: its tokens, and which of them after the first are trained."""
    digest = hashlib.sha256(tokens.astype("<u4").tobytes())
    digest.update((trained[1:] > 0).tobytes())
    return digest.hexdigest()[:32].encode()


def document_key(document: Document) -> bytes:
    """`key_of` a document."""
    return key_of(np.asarray(document.tokens), np.asarray(document.weights))


@dataclass(frozen=True, kw_only=True)
class Cache:
    """A complete cache, read from disk as needed."""

    folder: Path
    facts: Mapping[str, Any]

    @property
    def parts(self) -> list[Mapping[str, Any]]:
        return list(self.facts["parts"])

    @property
    def tokens(self) -> int:
        """Trained positions P."""
        return sum(part["tokens"] for part in self.parts)

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.folder.glob("*.npy"))

    @property
    def digest(self) -> str:
        """Digest of all arrays, for a run's identity."""
        return hashlib.sha256(json.dumps(self.parts, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def is_biased(self) -> bool:
        """Whether it holds the most probable tokens instead of draws."""
        return bool(self.facts["top_k"])

    @cached_property
    def starts(self) -> Mapping[bytes, int]:
        """First position of each document, by key."""
        starts, at = {}, 0
        for number in range(len(self.parts)):
            for document in _load(self.folder, number, "documents"):
                starts[bytes(document["key"])] = at
                at += int(document["tokens"])
        return starts

    def records(self, places: npt.NDArray[np.int64]) -> SparseRecord:
        """What is kept of the positions `places` (M,)."""
        number = np.searchsorted(self._ends, places, side="right")
        found: dict[str, npt.NDArray[Any]] = {}
        for part in np.unique(number):
            mine = number == part
            at = places[mine] - (self._ends[part - 1] if part else 0)
            for name in ARRAYS[1:]:
                rows = self._arrays[part][name][at]
                whole = found.setdefault(name, np.zeros((len(places), *rows.shape[1:]), rows.dtype))
                whole[mine] = rows
        ids, values = found["ids"].astype(np.uint32), found["values"]
        if not values.shape[1]:
            values = np.full(ids.shape, 1.0 / ids.shape[1], np.float32)
        return SparseRecord(ids=ids, values=values, entropy=found["entropy"])

    @cached_property
    def _ends(self) -> npt.NDArray[np.int64]:
        return np.cumsum([part["tokens"] for part in self.parts])

    @cached_property
    def _arrays(self) -> list[dict[str, Any]]:
        return [{name: _load(self.folder, number, name) for name in ARRAYS} for number in range(len(self.parts))]


def make_cache(
    settings: DistillSettings,
    prepared: PreparedRun,
    folder: Path,
    *,
    teacher: LoadedTeacher | None = None,
    tell: Callable[[int], None] = lambda rows: None,
) -> Cache:
    """Write, or go on writing, the teacher's distributions of every trained token of `prepared`.

    `tell` is called with the number of rows done. Raises UserError if `folder` holds a cache of something else, or the
    teacher cannot score the rows.
    """
    teacher = teacher or load_teacher(settings.teacher, settings.teacher_adapter)
    refuse_other_vocabulary(teacher, prepared.tokenizer, can_align=False)
    refuse_unreadable(teacher, (*prepared.train, *prepared.valid), packed=False)
    documents = list({document_key(each): each for each in (*prepared.train, *prepared.valid)}.items())
    facts = _facts(settings, prepared, teacher) | {
        "documents": hashlib.sha256(b"".join(key for key, _ in documents)).hexdigest()[:12]
    }
    with folder_lock(folder):
        parts = _parts_so_far(folder, facts)
        done = sum(part["documents"] for part in parts)
        for number, chosen in enumerate(_portions(documents[done:]), start=len(parts)):
            _write_part(folder, number, chosen, teacher, settings, facts["vocabulary"])
            done += len(chosen)
            sums = {name: sha256_of(_path(folder, number, name)) for name in ARRAYS}
            parts.append({"documents": len(chosen), "tokens": sum(each.trained for _, each in chosen), "sha256": sums})
            write_atomically(folder / INDEX, facts_text(KIND, {**facts, "parts": parts}))
            tell(done)
    return Cache(folder=folder, facts={**facts, "parts": parts})


def open_cache(folder: Path, settings: DistillSettings, prepared: PreparedRun, teacher: LoadedTeacher) -> Cache:
    """The cache in `folder`, if it holds what `teacher` says of the rows of `prepared`.

    Raises UserError that lists what differs for a stale cache, for one that lacks rows, and for damaged files.
    """
    facts = stored_facts(folder / INDEX, KIND)
    made = {name: facts[name] for name in ("draws", "draw_temperature", "top_k", "seed")}
    changes = differences(facts, _facts(settings, prepared, teacher) | made, ignored=OWN_FACTS)
    again = "make it again with --make-cache"
    if changes:
        raise UserError("The cache is stale", where=str(folder), fix=again, details=changes)
    damaged = [
        _path(folder, number, name).name
        for number, part in enumerate(facts["parts"])
        for name, checksum in part["sha256"].items()
        if not _path(folder, number, name).is_file() or sha256_of(_path(folder, number, name)) != checksum
    ]
    if damaged:
        raise UserError("The cache is damaged", where=str(folder), fix=f"delete it, then {again}", details=damaged)
    cache = Cache(folder=folder, facts=facts)
    rows = (*prepared.train, *prepared.valid)
    missing = sum(document_key(each) not in cache.starts for each in rows)
    if missing:
        raise UserError(
            f"The cache lacks {missing:,} of {len(rows):,} rows",
            where=str(folder),
            fix=f"{again}, of the same data and the same limits",
        )
    return cache


def _facts(settings: DistillSettings, prepared: PreparedRun, teacher: LoadedTeacher) -> dict[str, Any]:
    """Everything that the stored distributions depend on, apart from the documents."""
    template = "" if prepared.template is None else prepared.template.source
    rows = int(read_config(prepared.folder)["vocab_size"])
    return {
        "teacher": teacher.digest,
        "template": hashlib.sha256(template.encode()).hexdigest()[:12],
        "tokenizer": prepared.tokenizer.digest,
        "vocabulary": min(rows, teacher.vocabulary),
        "draws": settings.draws,
        "draw_temperature": settings.draw_temperature,
        "top_k": settings.top_k,
        "seed": settings.seed,
    }


def _parts_so_far(folder: Path, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    if not (folder / INDEX).exists():
        return []
    stored = stored_facts(folder / INDEX, KIND)
    refuse_other(differences(stored, facts), folder)
    return list(stored["parts"])


def _portions(documents: Sequence[tuple[bytes, Document]]) -> Iterator[list[tuple[bytes, Document]]]:
    """Consecutive documents with about PART_TOKENS trained tokens."""
    portion: list[tuple[bytes, Document]] = []
    count = 0
    for key, document in documents:
        portion.append((key, document))
        count += document.trained
        if count >= PART_TOKENS:
            yield portion
            portion, count = [], 0
    if portion:
        yield portion


def _write_part(
    folder: Path,
    number: int,
    chosen: Sequence[tuple[bytes, Document]],
    teacher: LoadedTeacher,
    settings: DistillSettings,
    vocabulary: int,
) -> None:
    # The shortest first, so that a batch has little padding.
    order = sorted(range(len(chosen)), key=lambda at: len(chosen[at][1]))
    records: dict[int, SparseRecord] = {}
    for start in range(0, len(order), settings.batch):
        mine = order[start : start + settings.batch]
        batches = BucketedBatches([chosen[at][1] for at in mine], settings.batch)
        batch = batches.take(np.arange(len(mine)))
        states = teacher.states(batch)[: batch.trained]
        random = [_uniforms(settings.seed, *chosen[at]) for at in mine]
        found = list(_sparse(states, np.concatenate(random), teacher, settings, vocabulary))
        whole = {name: np.concatenate([getattr(each, name) for each in found]) for name in ARRAYS[1:]}
        at = 0
        for document, uniforms in zip(mine, random, strict=True):
            records[document] = SparseRecord(**{k: each[at : at + len(uniforms)] for k, each in whole.items()})
            at += len(uniforms)
    ids = np.concatenate([records[at].ids for at in range(len(chosen))])
    values = np.concatenate([records[at].values for at in range(len(chosen))])
    if not settings.top_k and settings.draw_temperature == 1.0:
        values = values[:, :0]  # all are 1 / N
    arrays = {
        "documents": np.array([(key, document.trained) for key, document in chosen], DOCUMENT),
        "ids": ids.astype(np.uint16 if vocabulary <= 2**16 else np.uint32),
        "values": values,
        "entropy": np.concatenate([records[at].entropy for at in range(len(chosen))]),
    }
    for name, array in arrays.items():
        path = _path(folder, number, name)
        with disk_errors(path, kept="The finished parts are kept"):
            np.save(path, array)


def _uniforms(seed: int, key: bytes, document: Document) -> npt.NDArray[np.float64]:
    """One number for each trained position: a function of the seed and the document."""
    return np.random.default_rng([seed, int(key[:15], 16)]).random(document.trained)


def _sparse(
    states: mx.array,
    uniforms: npt.NDArray[np.float64],
    teacher: LoadedTeacher,
    settings: DistillSettings,
    vocabulary: int,
) -> Iterator[SparseRecord]:
    """What is kept of each position of `states`, a few rows at a time."""
    head = head_of(teacher.model)
    for rows in row_chunks(len(uniforms), vocabulary):
        if head is None:
            logits = [states[rows, columns].astype(mx.float32) for columns in vocabulary_chunks(vocabulary)]
        else:
            logits = LogitRows.of(head, states[rows], vocabulary).logits
        probs = np.array(mx.concatenate(Softmax(logits).probs, axis=-1))
        if settings.top_k:
            yield most_probable(probs, settings.top_k)
        else:
            yield systematic_draws(probs, settings.draws, uniforms[rows], settings.draw_temperature)


def _path(folder: Path, number: int, name: str) -> Path:
    return folder / f"{number:05d}-{name}.npy"


def _load(folder: Path, number: int, name: str) -> npt.NDArray[Any]:
    found: npt.NDArray[Any] = np.load(_path(folder, number, name), mmap_mode="r")
    return found
