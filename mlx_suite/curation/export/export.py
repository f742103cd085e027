"""A dataset in the shape another program reads, as a folder that can be given away: data, card and checksums."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_suite.curation.dataset import EMBEDDINGS_FILE, Collection, check_output, read_collection, read_embeddings
from mlx_suite.curation.export.card import MARK, dataset_card
from mlx_suite.curation.export.checksums import write_checksums
from mlx_suite.curation.export.formats import ExportFormat, format_named, problems_of
from mlx_suite.curation.export.parts import divide
from mlx_suite.curation.export.settings import ExportSettings
from mlx_suite.curation.export.steered import with_steering, without_steering
from mlx_suite.curation.filter.fields import text_of
from mlx_suite.curation.provenance import run_facts
from mlx_suite.curation.rows import Record
from mlx_suite.data.read.sources import TEST, TRAIN, VALID
from mlx_suite.runtime.errors import UserError, shortened
from mlx_suite.runtime.files import staged_folder
from mlx_suite.text.message import SYSTEM, USER

CARD_FILE = "README.md"


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an export came to."""

    folder: Path
    files: Mapping[str, int]
    """Rows by file."""
    cut: int
    """Conversations of which only the first exchange was written."""
    unsteered: int
    """Rows whose steering text was left out of their turns."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "folder": str(self.folder),
            "files": dict(self.files),
            "rows": sum(self.files.values()),
            "cut_to_first_turn": self.cut,
            "steering_left_out": self.unsteered,
        }


def export_dataset(source: str | Path, settings: ExportSettings, out: Path, *, force: bool = False) -> Exported:
    """Read a dataset and write it to the folder `out`, whole or not at all.

    Raises UserError for data that cannot be read or do not fit the format, every row at once; for too few rows to
    split; and for an `out` that is not to be replaced.
    """
    form = format_named(settings.to)
    check_output(out, _is_ours, source, force=force)
    collection = read_collection(source)
    rows, cut = _rows(collection.rows, form, settings)
    parts = _parts(collection, rows, form, settings)
    files = {f"{part}{form.suffix}": [rows[number] for number in numbers] for part, numbers in parts.items()}
    with staged_folder(out) as folder:
        for name, found in files.items():
            form.write(folder / name, found)
        card = dataset_card(
            title=settings.title or collection.name,
            license=settings.license,
            form=form.name,
            files=files,
            facts=run_facts(collection),
            keeps_steering=settings.keep_steering,
        )
        (folder / CARD_FILE).write_text(card, encoding="utf-8")
        write_checksums(folder)
    return Exported(
        folder=out,
        files={name: len(found) for name, found in files.items()},
        cut=cut,
        unsteered=0
        if settings.keep_steering
        else sum(without_steering(row) is not row for row in collection.rows if row.get("steer")),
    )


def _rows(rows: Sequence[Record], form: ExportFormat, settings: ExportSettings) -> tuple[list[Record], int]:
    """The rows as the format takes them, and how many had to be cut."""
    steered = with_steering if settings.keep_steering else without_steering
    chosen = [steered(row) for row in rows]
    cut = 0
    if settings.first_turn:
        shorter = [_first_exchange(row) if form.problem(row) else row for row in chosen]
        cut = sum(row is not before for row, before in zip(shorter, chosen, strict=True))
        chosen = shorter
    problems = problems_of(chosen, form)
    if problems:
        raise UserError(
            f"{len(problems):,} of {len(chosen):,} rows do not fit the format {form.name}",
            where=f"--to {form.name}",
            fix=_way_out(form, chosen),
            details=shortened(problems),
        )
    return chosen, cut


def _way_out(form: ExportFormat, rows: Sequence[Record]) -> str:
    if form.name.startswith("pairs"):
        return "take the folder that `mlx-suite magpie pairs DATA --out DIR` fills"
    fits = any(not form.problem(row) for row in rows)
    other = " or filter them out with --where 'turns = 1'" if fits else ""
    return f"give --first-turn, choose --to messages or sharegpt,{other}".rstrip(",")


def _first_exchange(row: Record) -> Record:
    """The row up to its first answer. A pair stays as it is: its answers belong to the last question."""
    if "chosen" in row:
        return row
    messages = row["messages"]
    system = [message for message in messages[:1] if message["role"] == SYSTEM]
    return {**row, "messages": [*system, *messages[len(system) :][:2]]}


def _parts(
    collection: Collection, rows: Sequence[Record], form: ExportFormat, settings: ExportSettings
) -> dict[str, tuple[int, ...]]:
    asked = {
        VALID: form.valid_share if settings.valid is None else settings.valid,
        TEST: form.test_share if settings.test is None else settings.test,
    }
    shares = {part: share for part, share in asked.items() if share > 0}
    if not shares:
        return {TRAIN: tuple(range(len(rows)))}
    from mlx_suite.curation.duplicates.clusters import near_duplicate_clusters

    vectors = None if settings.cosine is None else read_embeddings(collection)
    if settings.cosine is not None and vectors is None:
        raise UserError(
            f"There are no embeddings of these rows: no {EMBEDDINGS_FILE} beside them",
            where="--cosine",
            fix="take the folder of a run with embeddings, or leave it out",
        )
    texts = [text_of(row, USER) for row in rows]
    clusters = near_duplicate_clusters(texts, vectors, cosine=settings.cosine)
    return divide(rows, clusters, shares, settings.seed)


def _is_ours(folder: Path) -> bool:
    """Whether an export has filled the folder."""
    try:
        return MARK in (folder / CARD_FILE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
