"""Data files of a file, folder or hub dataset: what each is for, and its records.

Formats: JSON lines, JSON, CSV, TSV, Parquet and plain text; all but Parquet may be compressed with gzip.
"""

import difflib
import glob
import gzip
import os
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from mlx_suite.data.read.configurations import CARD, check_one_split, files_of, split_configuration
from mlx_suite.data.read.hub import download_dataset, is_hub_name, list_dataset
from mlx_suite.data.read.json import read_json, read_jsonl
from mlx_suite.data.read.records import Problem, Record, Records, decoded_lines
from mlx_suite.data.read.table import read_csv, read_parquet
from mlx_suite.runtime.errors import UserError, nearest_name

T = TypeVar("T")

TRAIN, VALID, TEST, UNUSED = "train", "valid", "test", "unused"
ACCEPTED_FILE = "accepted.jsonl"
"""Dataset written by `mlx-suite magpie`."""
_RUN_FILE = re.compile(r"drafts.*\.jsonl|rejected\.jsonl|manifest\.json")
"""The other files in its folder, which describe the run."""

PART_WORDS = {
    "train": TRAIN,
    "training": TRAIN,
    "valid": VALID,
    "validation": VALID,
    "val": VALID,
    "dev": VALID,
    "eval": VALID,
    "test": TEST,
    "testing": TEST,
}
_PART = re.compile(rf"(?<![a-z])({'|'.join(sorted(PART_WORDS, key=len, reverse=True))})(?![a-z])")
_NO_DATA = re.compile(
    r"(readme|licen[cs]e)\W.*|(requirements\.txt|(dataset_infos?|dataset_dict|state|settings|config)\.json)"
)
"""Files that describe a dataset and contain none of its rows."""


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """One file of a dataset."""

    path: Path
    name: str
    """Path relative to the folder of the dataset, for messages."""
    part: str
    """`train`, `valid`, `test`, or `unused` for a file next to a training file whose name does not say."""


def find_files(source: str | Path, split: str = "") -> tuple[DataFile, ...]:
    """Find the data files of a file, folder or hub dataset, sorted by name.

    `FOLDER:CONFIG` and `OWNER/REPO:CONFIG` choose a configuration, and `split` the split to train on. Raises UserError
    if there are no files, none to train on, or a mixture of configurations or splits.
    """
    config = ""
    if isinstance(source, str) and not Path(source).expanduser().exists():
        source, config = split_configuration(source, is_hub_name(source.rpartition(":")[0]))
    path = Path(source).expanduser()
    if path.is_file():
        if split:
            raise UserError("A file has no splits", where="--split", fix="leave out --split, or name the folder")
        return (DataFile(path=path, name=path.name, part=TRAIN),)
    if path.is_dir():
        # Subfolders of a local folder may hold unrelated files, so they are searched only if it has no data itself.
        names = data_names(path, path.iterdir()) or data_names(path, path.rglob("*"))
        return _with_parts(path, names, str(source), config, split)
    text = str(source)
    similar = _similar_paths(path)
    if is_hub_name(text) and not data_suffix(text):
        if (config or split) and (chosen := _chosen_files(text, config, split, similar)):
            return chosen
        patterns = [CARD, *(f"*{suffix}{packed}" for suffix in SUFFIXES for packed in ("", ".gz"))]
        folder = download_dataset(text, patterns, similar)
        return _with_parts(folder, data_names(folder, folder.rglob("*")), text, config, split)
    raise UserError(
        "there is no such file or folder",
        where=text,
        fix=f"did you mean {' or '.join(similar)}?"
        if similar
        else "check the path; a dataset of the hub is OWNER/REPO or OWNER/REPO:CONFIG",
    )


def _chosen_files(source: str, config: str, split: str, similar: Sequence[str]) -> tuple[DataFile, ...]:
    """The files of one configuration or split of a hub dataset, of which no others are downloaded.

    Empty if the hub does not list the files of the repository.
    """
    listed = list_dataset(source)
    if listed is None:
        return ()
    folder = download_dataset(source, [CARD], similar)
    names = sorted(name for name in listed if _holds_data(Path(name)))
    files = _with_parts(folder, names, source, config, split)
    needed = [glob.escape(file.name) for file in files if file.part != UNUSED]
    folder = download_dataset(source, [CARD, *needed], similar)
    return tuple(replace(file, path=folder / file.name) for file in files)


def read_records(path: Path, name: str = "") -> Records:
    """Read the records of a file in order. Where the format allows it, reading continues after a Problem.

    `name` replaces the file name in places. Raises UserError for a file that cannot be opened, has an unknown suffix,
    or needs a library that is not installed.
    """
    name = name or path.name
    reader = _READERS.get(data_suffix(path.name))
    if reader is None:
        raise UserError(
            f"the file has {f'the unknown suffix {path.suffix}' if path.suffix else 'no suffix'}",
            where=str(path),
            fix=f"use one of {', '.join(SUFFIXES)}",
        )
    yield from guarded(reader(path, name), path, name)


def guarded(items: Iterable[T], path: Path, name: str) -> Iterator[T | Problem]:
    """`items` of a file, with a Problem where it is damaged gzip. Raises UserError if the file cannot be read."""
    try:
        yield from items
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        yield Problem(name, f"the compressed file is damaged ({error}); what follows is not read", ends_reading=True)
    except OSError as error:
        raise UserError(
            f"the file cannot be read: {error.strerror or error}",
            where=str(path),
            fix="check the path and its permissions",
        ) from error


def data_suffix(name: str) -> str:
    """The suffix that selects the reader, in lower case and without .gz; empty for other files."""
    lowered = name.lower()
    plain = lowered.removesuffix(".gz")
    suffix = Path(plain).suffix
    return suffix if suffix in _READERS and not (suffix == ".parquet" and plain != lowered) else ""


def part_of(name: str) -> str:
    """The purpose of a file by its name, else by the names of its folders; empty if they do not say.

    Examples: `train.jsonl`, `alpaca_val.json`, `data/test-00000-of-00001.parquet`.
    """
    for piece in reversed(Path(name.lower()).parts):
        match = _PART.search(piece)
        if match:
            return PART_WORDS[match.group(1)]
    return ""


def data_names(folder: Path, paths: Iterable[Path], also: Collection[str] = ()) -> list[str]:
    """The sorted names of those of `paths`, relative to `folder`, that hold data. `also`: suffixes that count too."""
    names = ((path, path.relative_to(folder)) for path in paths)
    return sorted(name.as_posix() for path, name in names if _holds_data(name, also) and path.is_file())


def _holds_data(name: Path, also: Collection[str] = ()) -> bool:
    """Whether a file holds data, by its name relative to the folder of the dataset."""
    hidden = any(piece.startswith((".", "__")) for piece in name.parts)
    known = data_suffix(name.name) or Path(name.name.lower().removesuffix(".gz")).suffix in also
    return bool(known) and not hidden and not _NO_DATA.fullmatch(name.name.lower())


def _with_parts(
    folder: Path, names: Sequence[str], source: str, config: str = "", split: str = ""
) -> tuple[DataFile, ...]:
    if not names:
        raise nothing_to_read(folder, source)
    trains = [name for name in names if part_of(Path(name).name) == TRAIN]
    splits = files_of(folder, names, config, source, trains)
    names = [name for name in names if name in splits]
    parts = {name: part_of(splits[name]) or part_of(name) for name in names}
    if split:
        parts = _with_split(parts, splits, split, source)
    else:
        purpose = TRAIN if TRAIN in parts.values() else ""
        check_one_split([splits[name] for name in names if parts[name] == purpose], source)
    if TRAIN in parts.values():
        parts = {name: part or UNUSED for name, part in parts.items()}
    elif ACCEPTED_FILE in parts:
        others = (name for name in names if not _RUN_FILE.fullmatch(name))
        parts = {name: TRAIN if name == ACCEPTED_FILE else UNUSED for name in others}
    else:
        parts = {name: part or TRAIN for name, part in parts.items()}
    if TRAIN not in parts.values():
        raise UserError(
            "the folder has no file to train on",
            where=source,
            fix=f"name one train, for example train.jsonl; found: {', '.join(names[:8])}",
        )
    return tuple(DataFile(path=folder / name, name=name, part=part) for name, part in parts.items())


def _with_split(parts: Mapping[str, str], splits: Mapping[str, str], wanted: str, source: str) -> dict[str, str]:
    """The parts if the split `wanted` is trained on; of the others, only validation files are read."""
    chosen = [name for name in parts if splits[name] == wanted] or [
        name for name in parts if parts[name] and parts[name] == PART_WORDS.get(wanted.lower())
    ]
    if not chosen:
        known = dict.fromkeys(splits[name] or part for name, part in parts.items() if splits[name] or part)
        raise UserError(
            f"The dataset has no split {wanted!r}",
            where="--split",
            fix=nearest_name(wanted, known) if known else "leave out --split: no file name names one",
        )
    return {name: TRAIN if name in chosen else VALID if part == VALID else UNUSED for name, part in parts.items()}


def nothing_to_read(folder: Path, source: str) -> UserError:
    """The error for a folder without a file of data."""
    if any(folder.rglob("*.arrow")):
        fix = "convert its Arrow files with the `datasets` library: dataset.to_parquet(…)"
    else:
        fix = f"add a file that ends in one of {', '.join(SUFFIXES)}"
    return UserError("the folder has no data that can be read", where=source, fix=fix)


def _similar_paths(path: Path) -> list[str]:
    """Files and folders next to `path` with a similar name."""
    try:
        siblings = {other.name: str(other) for other in path.parent.iterdir()}
    except OSError:
        return []
    close = difflib.get_close_matches(path.name, siblings, n=2, cutoff=0.7)
    return [os.path.normpath(siblings[name]) for name in close]


def _read_text(path: Path, name: str) -> Records:
    """Read the entire file as one record."""
    lines = [line for _, line in decoded_lines(path, name)]
    problems = [line for line in lines if isinstance(line, Problem)]
    text = "".join(line for line in lines if isinstance(line, str))
    if problems:
        yield from problems
    elif text.strip():
        yield Record(name, text)


_READERS: dict[str, Callable[[Path, str], Records]] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": partial(read_csv, delimiter="\t"),
    ".parquet": read_parquet,
    ".txt": _read_text,
}
SUFFIXES = tuple(_READERS)
"""Suffixes of files that can be read."""
