"""Export a dataset for another program: a folder with data, dataset card and checksums.

Steering texts are removed by default. A text such as "The user asks for the solution of a mathematical problem." only
serves to obtain the instruction; a model trained on the row should respond without it. A system prompt that the user
set for all rows is kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_suite.curation.dataset import EMBEDDINGS_FILE, Collection, check_output, read_collection, read_embeddings
from mlx_suite.curation.export.card import MARK, dataset_card
from mlx_suite.curation.export.formats import ExportFormat, format_named, misfits
from mlx_suite.curation.export.settings import ExportSettings
from mlx_suite.curation.filter.fields import text_of
from mlx_suite.curation.provenance import run_facts
from mlx_suite.curation.rows import Record
from mlx_suite.curation.set_aside import SetAside, set_aside_facts
from mlx_suite.data.read.sources import TEST, TRAIN, VALID
from mlx_suite.data.steering import AGREEMENT, CATEGORY_TEXTS, DIMENSIONS, LANGUAGE_TEXTS, REST, steering_text
from mlx_suite.runtime.errors import UserError, shortened
from mlx_suite.runtime.files import sha256_of, staged_folder
from mlx_suite.text.message import ASSISTANT, SYSTEM, USER

CARD_FILE = "README.md"
CHECKSUMS_FILE = "SHA256SUMS"
_KNOWN = {"category": CATEGORY_TEXTS, "language": LANGUAGE_TEXTS}


@dataclass(frozen=True, kw_only=True)
class Exported:
    """Result of an export."""

    folder: Path
    files: Mapping[str, int]
    """Number of rows by file."""
    cut: int
    """Conversations cut to their first exchange."""
    unsteered: int
    """Rows whose steering text was removed."""
    set_aside: tuple[SetAside, ...] = ()
    """Rows that cannot be read."""
    unfit: tuple[SetAside, ...] = ()
    """Rows that do not fit the format."""
    hint: str = ""
    """How to export those too; empty if every row fits."""

    @property
    def read(self) -> int:
        """Number of rows in the data, exported or not."""
        return sum(self.files.values()) + len(self.set_aside) + len(self.unfit)

    def as_dict(self) -> dict[str, Any]:
        """JSON object."""
        return {
            "folder": str(self.folder),
            "files": dict(self.files),
            "rows": sum(self.files.values()),
            "cut_to_first_turn": self.cut,
            "steering_left_out": self.unsteered,
            "set_aside": set_aside_facts(self.set_aside),
            "unfit": set_aside_facts(self.unfit),
        }


def export_dataset(
    source: str | Path,
    settings: ExportSettings,
    out: Path,
    *,
    force: bool = False,
    strict: bool = False,
    split: str = "",
) -> Exported:
    """Read a dataset (its `split`, if named) and write it to the folder `out` atomically.

    Rows that cannot be read or do not fit the format are left out and counted, unless `strict`. Raises UserError for
    data that cannot be read, if no row fits (all are listed), for too few rows to split, and for an `out` that may not
    be replaced.
    """
    form = format_named(settings.to)
    check_output(out, _is_ours, source, force=force)
    collection = read_collection(source, strict=strict, split=split)
    converted, cut = _rows(collection.rows, form, settings)
    unfit = misfits(converted, collection.positions, form)
    if unfit and (strict or len(unfit) == len(converted)):
        raise _refusal(list(unfit.values()), len(converted), form)
    kept = [number for number in range(len(converted)) if number not in unfit]
    rows = [converted[number] for number in kept]
    splits = _splits(collection, kept, rows, form, settings)
    files = {f"{name}{form.suffix}": [rows[number] for number in numbers] for name, numbers in splits.items()}
    with staged_folder(out) as folder:
        for name, own in files.items():
            form.write(folder / name, own)
        card = dataset_card(
            title=settings.title or collection.name,
            license=settings.license,
            form=form.name,
            files=files,
            facts=run_facts(collection),
            keeps_steering=settings.keep_steering,
        )
        (folder / CARD_FILE).write_text(card, encoding="utf-8")
        _write_checksums(folder)
    return Exported(
        folder=out,
        set_aside=collection.set_aside,
        unfit=tuple(unfit.values()),
        hint=_hint(form, some_fit=True) if unfit else "",
        files={name: len(own) for name, own in files.items()},
        cut=cut,
        unsteered=0
        if settings.keep_steering
        else sum(
            without_steering(row) is not row for row in (collection.rows[number] for number in kept) if row.get("steer")
        ),
    )


def _rows(rows: Sequence[Record], form: ExportFormat, settings: ExportSettings) -> tuple[list[Record], int]:
    """The rows to export and the number of rows cut."""
    convert = with_steering if settings.keep_steering else without_steering
    chosen = [convert(row) for row in rows]
    cut = 0
    if settings.first_turn:
        shorter = [_first_exchange(row) if form.problem(row) else row for row in chosen]
        cut = sum(row is not before for row, before in zip(shorter, chosen, strict=True))
        chosen = shorter
    return chosen, cut


def _refusal(unfit: Sequence[SetAside], total: int, form: ExportFormat) -> UserError:
    return UserError(
        f"{len(unfit):,} of {total:,} rows do not fit the format {form.name}",
        where=f"--to {form.name}",
        fix=_hint(form, some_fit=len(unfit) < total),
        details=shortened([f"{row.place}: {row.reasons[0]}" for row in unfit]),
    )


def _hint(form: ExportFormat, *, some_fit: bool) -> str:
    if form.name.startswith("pairs"):
        return "export the output folder of `mlx-suite magpie pairs`"
    if some_fit:
        return "give --first-turn, choose --to messages or sharegpt, or filter the data with --where 'turns = 1'"
    return "give --first-turn, or choose --to messages or sharegpt"


def _first_exchange(row: Record) -> Record:
    """Cut a row after its first response. Pairs are unchanged: their responses belong to the last instruction."""
    if "chosen" in row:
        return row
    messages = row["messages"]
    system = [message for message in messages[:1] if message["role"] == SYSTEM]
    return {**row, "messages": [*system, *messages[len(system) :][:2]]}


def _splits(
    collection: Collection,
    kept: Sequence[int],
    rows: Sequence[Record],
    form: ExportFormat,
    settings: ExportSettings,
) -> dict[str, tuple[int, ...]]:
    """Indices of `rows` by split; `kept` are their indices in the collection."""
    by_split = {
        VALID: form.valid_share if settings.valid is None else settings.valid,
        TEST: form.test_share if settings.test is None else settings.test,
    }
    shares = {name: share for name, share in by_split.items() if share > 0}
    if not shares:
        return {TRAIN: tuple(range(len(rows)))}
    from mlx_suite.curation.export.splits import near_duplicate_clusters, split_rows

    vectors = None if settings.cosine is None else read_embeddings(collection)
    if settings.cosine is not None and vectors is None:
        raise UserError(
            f"These rows have no embeddings: there is no {EMBEDDINGS_FILE} next to them",
            where="--cosine",
            fix="use the folder of a run with embeddings, or leave --cosine out",
        )
    texts = [text_of(row, USER) for row in rows]
    vectors = None if vectors is None else vectors[list(kept)]
    clusters = near_duplicate_clusters(texts, vectors, cosine=settings.cosine)
    return split_rows(rows, clusters, shares, settings.seed)


def _is_ours(folder: Path) -> bool:
    """True if the folder is the output of an export."""
    try:
        return MARK in (folder / CARD_FILE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def _write_checksums(folder: Path) -> None:
    """Write SHA256SUMS for all files of the folder, for `sha256sum -c` (`shasum -a 256 -c` on a Mac)."""
    lines = [f"{sha256_of(path)}  {path.name}\n" for path in sorted(folder.iterdir())]
    (folder / CHECKSUMS_FILE).write_text("".join(lines), encoding="utf-8")


# ---- steering texts


def _steering_texts(row: Record) -> tuple[str, ...]:
    """The steering texts of a row, from its field `steer`; empty if it was not steered."""
    steer = row.get("steer")
    if not isinstance(steer, dict):
        return ()
    values = [(dimension, steer[dimension]) for dimension in DIMENSIONS if steer.get(dimension) not in (None, REST)]
    return tuple(
        steering_text(dimension, value)
        for dimension, value in values
        if isinstance(value, str) and value in _KNOWN.get(dimension, (value,))
    )


def without_steering(row: Record) -> Record:
    """The row without its steering texts, whether they are in a system turn or in an exchange that replaces it."""
    texts = _steering_texts(row)
    if not texts:
        return row
    first, *rest = row["messages"]
    if first["role"] == SYSTEM:
        remaining = _without(first["content"], texts)
        kept = [{**first, "content": remaining}] if remaining else []
        return {**row, "messages": [*kept, *rest]}
    if _is_exchange(row["messages"][:2]) and not _without(first["content"], texts):
        return {**row, "messages": rest[1:]}
    return row


def with_steering(row: Record) -> Record:
    """The row with its steering texts as a system turn, appended to the system prompt if it has one."""
    texts = _steering_texts(row)
    if not texts:
        return row
    bare = without_steering(row)
    own = [message for message in bare["messages"] if message["role"] == SYSTEM]
    others = [message for message in bare["messages"] if message["role"] != SYSTEM]
    system = " ".join([*(message["content"] for message in own), *texts])
    return {**bare, "messages": [{"role": SYSTEM, "content": system}, *others]}


def _without(text: str, sentences: tuple[str, ...]) -> str:
    for sentence in sentences:
        text = text.replace(sentence, "", 1)
    return text.strip()


def _is_exchange(turns: list[Record]) -> bool:
    return (
        len(turns) == 2
        and turns[0]["role"] == USER
        and turns[1]["role"] == ASSISTANT
        and turns[1]["content"] == AGREEMENT
    )
