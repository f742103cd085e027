"""From what a user names to the files to read, and what each is for."""

import difflib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlx_suite.data.read.hub import fetch_dataset, is_hub_name
from mlx_suite.data.read.records import SUFFIXES, data_suffix
from mlx_suite.runtime.errors import UserError

TRAIN, VALID, TEST, UNUSED = "train", "valid", "test", "unused"
ACCEPTED_FILE = "accepted.jsonl"
"""What `mlx-suite magpie` writes; its other files are about the run."""

PARTS = {
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
_PART = re.compile(rf"(?<![a-z])({'|'.join(sorted(PARTS, key=len, reverse=True))})(?![a-z])")
_NO_DATA = re.compile(
    r"(readme|licen[cs]e)\W.*|(requirements\.txt|(dataset_infos?|dataset_dict|state|settings|config)\.json)"
)
"""Files that describe a dataset."""


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """One file of a dataset."""

    path: Path
    name: str
    """Below the folder that was named, for messages."""
    part: str
    """`train`, `valid`, `test`, or `unused` for what lies beside a training file under no such name."""


def find_files(source: str | Path) -> tuple[DataFile, ...]:
    """The data files of a file, a folder or a dataset of the hub, in the order of their names.

    Raises UserError if there are none, or none to train on.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return (DataFile(path=path, name=path.name, part=TRAIN),)
    if path.is_dir():
        # A folder of one's own may have other things further down.
        names = _data_names(path, path.iterdir()) or _data_names(path, path.rglob("*"))
        return _with_parts(path, names, str(source))
    text = str(source)
    similar = _similar_paths(path)
    if is_hub_name(text) and not data_suffix(text):
        folder = fetch_dataset(text, similar)
        return _with_parts(folder, _data_names(folder, folder.rglob("*")), text)
    raise UserError(
        "there is no such file or folder",
        where=text,
        fix=f"did you mean {' or '.join(similar)}?"
        if similar
        else "check the path; a dataset of the hub is OWNER/REPO",
    )


def part_of(name: str) -> str:
    """What a file is for by its name, else by the names of its folders; empty if they do not say.

    `train.jsonl`, `alpaca_val.json` and `data/test-00000-of-00001.parquet` do.
    """
    for piece in reversed(Path(name.lower()).parts):
        found = _PART.search(piece)
        if found:
            return PARTS[found.group(1)]
    return ""


def _data_names(folder: Path, paths: Iterable[Path]) -> list[str]:
    names = []
    for path in paths:
        name = path.relative_to(folder)
        hidden = any(piece.startswith((".", "__")) for piece in name.parts)
        if not hidden and data_suffix(path.name) and not _NO_DATA.fullmatch(path.name.lower()) and path.is_file():
            names.append(name.as_posix())
    return sorted(names)


def _with_parts(folder: Path, names: Sequence[str], source: str) -> tuple[DataFile, ...]:
    if not names:
        raise _nothing_to_read(folder, source)
    parts = {name: part_of(name) for name in names}
    if TRAIN in parts.values():
        parts = {name: part or UNUSED for name, part in parts.items()}
    elif ACCEPTED_FILE in parts:
        parts = {name: TRAIN if name == ACCEPTED_FILE else UNUSED for name in names}
    else:
        parts = {name: part or TRAIN for name, part in parts.items()}
    if TRAIN not in parts.values():
        raise UserError(
            "the folder holds no file to train on",
            where=source,
            fix=f"name it train, for example train.jsonl; found: {', '.join(names[:8])}",
        )
    return tuple(DataFile(path=folder / name, name=name, part=part) for name, part in parts.items())


def _nothing_to_read(folder: Path, source: str) -> UserError:
    if any(folder.rglob("*.arrow")):
        fix = "these are Arrow files; write them with `datasets`: dataset.to_parquet(…)"
    else:
        fix = f"put in a file that ends in one of {', '.join(SUFFIXES)}"
    return UserError("the folder holds no data that can be read", where=source, fix=fix)


def _similar_paths(path: Path) -> list[str]:
    """Files and folders beside it with nearly its name."""
    try:
        beside = {other.name: str(other) for other in path.parent.iterdir()}
    except OSError:
        return []
    close = difflib.get_close_matches(path.name, beside, n=2, cutoff=0.7)
    return [os.path.normpath(beside[name]) for name in close]
