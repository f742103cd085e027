"""Reading and writing datasets: the folder of a run, or any dataset that can be trained on.

The one place that knows the files of a run folder: accepted.jsonl and rejected.jsonl (rows), manifest.json (how they
were made), drafts.jsonl (what the model wrote), embeddings.npy (one vector per accepted row), and filter.json, which
replaces the manifest in a folder that `magpie filter` has written.

Shapes: N rows, d dimensions of an embedding.
"""

import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlx_suite.curation.rows import Record, format_of, read_row
from mlx_suite.curation.set_aside import SetAside
from mlx_suite.data.read.formats import detect, unknown_format
from mlx_suite.data.read.records import Problem
from mlx_suite.data.read.sources import ACCEPTED_FILE, TRAIN, DataFile, find_files, read_records
from mlx_suite.data.read.tool_turns import spoken_text
from mlx_suite.runtime.errors import UserError, shortened
from mlx_suite.runtime.files import write_atomically
from mlx_suite.runtime.journal import read_lines
from mlx_suite.text.message import ASSISTANT, USER

REJECTED_FILE = "rejected.jsonl"
MANIFEST_FILE = "manifest.json"
DRAFTS_FILE = "drafts.jsonl"
EMBEDDINGS_FILE = "embeddings.npy"
FILTER_FILE = "filter.json"
MANIFESTS = (FILTER_FILE, MANIFEST_FILE, "settings.json")
"""Files that record how rows were made: by a filter, by a run, by a run of a version without manifests."""

Vectors = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True)
class Collection:
    """The rows of one dataset."""

    name: str
    """Name of the folder, the file or the dataset on the hub."""
    rows: tuple[Record, ...]
    """Rows with `messages`, a list of {"role", "content"}, and all their other fields."""
    folder: Path | None = None
    """Folder with `accepted.jsonl`, of a Magpie run or a filter; None for other data."""
    set_aside: tuple[SetAside, ...] = ()
    """Rows that cannot be read, in the order of the data."""

    @property
    def total(self) -> int:
        """Number of rows in the data, readable or not."""
        return len(self.rows) + len(self.set_aside)

    @property
    def positions(self) -> tuple[int, ...]:
        """Index of each of `rows` among all rows of the data, readable or not."""
        unread = {row.position for row in self.set_aside}
        return tuple(place for place in range(self.total) if place not in unread)


def read_collection(source: str | Path, *, strict: bool = False, split: str = "") -> Collection:
    """Read a run folder, a file, another folder, or a dataset on the hub, `owner/repo[:configuration]`.

    Only the training split is read if there are several, so that no test row leaks into the result; `split` names
    another. Alpaca's input is appended to its instruction after a blank line. A torn last line of a run in progress is
    skipped.

    A row that cannot be read is set aside with its reasons. Raises UserError that lists every problem of every file as
    `file:line` if `strict`, if a whole file or the rest of one cannot be read, and if no row can.
    """
    rows: list[Record] = []
    problems: list[Problem] = []
    set_aside: list[SetAside] = []
    for file in find_files(source, split):
        if file.part == TRAIN:
            for item in _read_file(file):
                if isinstance(item, _Unread):
                    problems += item.problems
                    set_aside.append(item.row(len(rows) + len(set_aside)))
                else:
                    rows.append(item)
    if problems and (strict or not rows or any(problem.ends_reading for problem in problems)):
        count = len(problems)
        raise UserError(
            "There is a problem with the data" if count == 1 else f"There are {count:,} problems with the data",
            where=str(source),
            fix=("correct it" if count == 1 else "correct them") + (", or omit --strict" if strict and rows else ""),
            details=shortened(problems),
        )
    path = Path(source).expanduser()
    folder = path if path.is_dir() else path.parent
    is_run = (folder / ACCEPTED_FILE).is_file() and (path.is_dir() or path.name == ACCEPTED_FILE)
    name = path.resolve().name if path.is_dir() else path.name if path.is_file() else str(source)
    return Collection(name=name, rows=tuple(rows), folder=folder if is_run else None, set_aside=tuple(set_aside))


@dataclass(frozen=True)
class _Unread:
    """A row, or a file, that cannot be read."""

    problems: tuple[Problem, ...]
    value: Any = None

    def row(self, position: int) -> SetAside:
        reasons = tuple(problem.what for problem in self.problems)
        return SetAside(position=position, place=self.problems[0].place, reasons=reasons, value=self.value)


def _read_file(file: DataFile) -> Iterator[Record | _Unread]:
    records = deque(read_records(file.path, file.name))
    if records and isinstance(records[-1], Problem) and _is_torn(file.path):
        records.pop()
    form = format_of(records)
    if not records:
        yield _Unread((Problem(file.name, "the file has no rows", ends_reading=True),))
    elif form is None:
        unreadable = [record for record in records if isinstance(record, Problem)]
        is_text = detect(records) is not None
        unknown = "the rows are plain text; expected conversations" if is_text else unknown_format(records)
        for problem in unreadable or [Problem(file.name, unknown)]:
            yield _Unread((replace(problem, ends_reading=True),))
    while form is not None and records:
        record = records.popleft()
        if isinstance(record, Problem):
            yield _Unread((record,))
            continue
        problems: list[Problem] = []
        row = read_row(record, form, problems.append)
        yield _Unread(tuple(problems), record.value) if row is None else row


def _is_torn(path: Path) -> bool:
    """True if the last line of a run's rows lacks its newline."""
    if path.name != ACCEPTED_FILE or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read() != b"\n"


# ---- parts of a row


def texts_of(row: Mapping[str, Any], role: str) -> list[str]:
    """The texts of all turns of one role, in order."""
    return [spoken_text(turn) for turn in row["messages"] if turn.get("role") == role]


def instruction_of(row: Mapping[str, Any]) -> str:
    """The first user turn; empty if there is none."""
    return next(iter(texts_of(row, USER)), "")


def response_of(row: Mapping[str, Any]) -> str:
    """The last assistant turn; empty if there is none."""
    return next(reversed(texts_of(row, ASSISTANT)), "")


def object_in(holder: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The object under a key of a row or a manifest; empty if there is none."""
    value = holder.get(key)
    return value if isinstance(value, Mapping) else {}


def number_in(holder: Mapping[str, Any], key: str) -> float | None:
    """The finite number under a key of a row or a manifest; None if there is none."""
    value = holder.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


# ---- the other files of a run


def read_rejected(folder: Path, bad: list[int]) -> Iterator[Record]:
    """Yield the rejected rows of a run; the numbers of invalid lines are appended to `bad`.

    Raises UserError if the file is missing.
    """

    def checked(row: Record) -> Record:
        if not isinstance(row["messages"], list) or not all(isinstance(turn, dict) for turn in row["messages"]):
            raise TypeError("messages")
        return row

    return read_lines(folder / REJECTED_FILE, checked, bad)


def read_manifest(folder: Path) -> tuple[str, dict[str, Any]]:
    """Name and content of the file that says how the rows were made.

    The name is empty if there is none; the content is empty if it cannot be read.
    """
    name = next((name for name in MANIFESTS if (folder / name).is_file()), "")
    try:
        content = json.loads((folder / name).read_bytes()) if name else {}
    except (OSError, ValueError, RecursionError):
        content = {}
    return name, content if isinstance(content, dict) else {}


def read_embeddings(collection: Collection) -> Vectors | None:
    """The embeddings (N, d) of the rows; None if there are none.

    Raises UserError for a file that cannot be read or does not belong to these rows.
    """
    path = None if collection.folder is None else collection.folder / EMBEDDINGS_FILE
    if path is None or not path.is_file():
        return None
    try:
        vectors = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"The embeddings cannot be read: {error}", where=str(path), fix="delete the file") from error
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or len(vectors) != collection.total or not vectors.shape[1]:
        shape = " x ".join(map(str, vectors.shape))
        raise UserError(
            f"The embeddings are {shape} values and do not belong to these {collection.total:,} rows",
            where=str(path),
            fix="delete the file",
        )
    if collection.set_aside:
        vectors = np.delete(vectors, [row.position for row in collection.set_aside], axis=0)
    return vectors


def write_embeddings(path: Path, vectors: Vectors) -> None:
    """Write vectors (N, d) in half precision."""
    with path.open("wb") as file:
        np.save(file, vectors.astype(np.float16))


# ---- writing


def write_rows(path: Path | str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSON lines, atomically. Raises UserError if the disk is full."""
    write_atomically(path, b"".join(map(json_line, rows)))


def json_line(row: Mapping[str, Any]) -> bytes:
    """A row as one line of JSON. NaN and infinity, which JSON does not have, become null; a date becomes text."""
    try:
        text = json.dumps(row, ensure_ascii=False, allow_nan=False, default=str)
    except ValueError:
        return json_line(_finite(row))
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:  # a lone surrogate, which JSON can only escape
        return json.dumps(row, default=str).encode() + b"\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_output(out: Path, is_ours: Callable[[Path], bool], source: str | Path, *, force: bool) -> None:
    """Raise UserError unless the folder `out` may be replaced: it is new, empty, or recognised by `is_ours`.

    `force` allows replacing other files, but never `source` or a parent folder of it.
    """
    read = Path(source).expanduser()
    if read.exists() and (out.resolve() == read.resolve() or out.resolve() in read.resolve().parents):
        raise UserError("This would replace the input data", where=f"--out {out}", fix="choose another folder")
    if out.is_file():
        raise UserError(
            "A file with this name exists; expected a folder", where=f"--out {out}", fix="choose another name"
        )
    inside = [path.name for path in out.iterdir() if path.is_dir()] if out.is_dir() else []
    if inside:
        raise UserError(
            f"The folder has subfolders ({', '.join(sorted(inside)[:3])}) and is not replaced",
            where=f"--out {out}",
            fix="choose another folder",
        )
    if out.is_dir() and any(out.iterdir()) and not is_ours(out) and not force:
        raise UserError(
            "The folder contains files that this command did not write",
            where=f"--out {out}",
            fix="choose another folder, or give --force to replace it and everything in it",
        )
