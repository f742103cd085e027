"""Tensor names, shapes and dtypes of a checkpoint, read from its safetensors headers.

A safetensors file is `8 bytes: header length (little endian) · header (JSON) · tensor bytes`. The header lists the
tensors and implies the file's length, so a model of any size is inspected in milliseconds and a truncated file is
detected before anything is loaded.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from mlx_suite.runtime.errors import UserError, warn_once
from mlx_suite.runtime.json_file import TEXT, Kind, by_name, read_object

_SHARD_NAMES = Kind(
    name="an object of file names by tensor",
    # No file system has longer names, and Python raises an error for them.
    holds=lambda value: by_name(TEXT).holds(value) and all(len(name.encode()) <= 255 for name in value.values()),
)

INDEX_NAME = "model.safetensors.index.json"
MAX_HEADER_BYTES = 100_000_000
"""Limit of the format; a longer header means the file is not safetensors."""

DOWNLOAD_AGAIN = "download the files again (for a hub model: `mlx-suite models pull OWNER/REPO`)"

OTHER_WEIGHTS = {
    ".bin": "PyTorch pickles (.bin)",
    ".pth": "PyTorch pickles (.pth)",
    ".pt": "PyTorch pickles (.pt)",
    ".ckpt": "PyTorch pickles (.ckpt)",
    ".gguf": "llama.cpp files (.gguf)",
    ".h5": "TensorFlow files (.h5)",
    ".msgpack": "Flax files (.msgpack)",
    ".onnx": "ONNX files (.onnx)",
    ".npz": "NumPy files (.npz)",
}
"""Weights in formats that are not read from a folder, by suffix."""
SAFETENSORS = (
    "look for the same model in safetensors format, for example under mlx-community, or save it so with PyTorch"
)


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """A tensor as described by its file."""

    name: str
    dtype: str
    """Name in the format: `BF16`, `F16`, `F32`, `U32`, …"""
    shape: tuple[int, ...]
    num_bytes: int
    file: Path
    start: int = 0
    """Position of its first byte in the file."""

    @property
    def size(self) -> int:
        """Number of stored elements; a `U32` of packed 4-bit weights holds eight weights."""
        return prod(self.shape)


class _Damaged(Exception):
    """Reason why a file cannot be read; reasons are collected so that one error lists all bad files."""


def read_header(path: Path) -> dict[str, TensorHeader]:
    """Return the tensors of one file by name.

    Raises UserError if the file is truncated or not safetensors.
    """
    try:
        return _read_header(path)
    except _Damaged as damage:
        raise _unreadable([f"{path.name} {damage}"], path) from None


def read_headers(folder: Path) -> dict[str, TensorHeader]:
    """Return every tensor of a checkpoint folder by name, from all shards.

    Raises UserError that lists every missing or truncated file, and every tensor of the index that no file contains.
    """
    problems: list[str] = []
    tensors: dict[str, TensorHeader] = {}
    for path in weight_files(folder):
        try:
            tensors |= _read_header(path)
        except _Damaged as damage:
            problems.append(f"{path.name} {damage}")
    if not problems:
        absent = sorted(set(_index(folder)) - set(tensors))
        problems += [f"{name} is in {INDEX_NAME} but not in any file" for name in absent]
    if problems:
        raise _unreadable(problems, folder)
    return tensors


def weight_files(folder: Path) -> list[Path]:
    """Return the weight files of a checkpoint folder, sorted by name.

    The files of the index; without one, all `model*.safetensors`, or else all `*.safetensors`. An index whose shards
    are missing is stale if there are other `model*.safetensors`. Raises UserError if there are none or shards are
    missing; contents are not checked.
    """
    shards = shard_names(folder)
    missing = [name for name in shards if not (folder / name).is_file()]
    if missing:
        raise UserError(
            what=f"{len(missing)} of {len(shards)} weight files are missing",
            details=missing,
            where=str(folder),
            fix=DOWNLOAD_AGAIN,
        )
    files = [folder / name for name in shards]
    files = files or _besides_index(folder, _read_index(folder)) or sorted(folder.glob("model*.safetensors"))
    files = files or sorted(folder.glob("*.safetensors"))
    files = [path for path in files if path.is_file()]
    if not files:
        raise _without_weights(folder)
    return files


def _without_weights(folder: Path) -> UserError:
    """The error for a folder without a .safetensors file, by what it has instead."""
    others = {path: OTHER_WEIGHTS[path.suffix] for path in sorted(folder.glob("*")) if path.suffix in OTHER_WEIGHTS}
    what, fix = "the folder has no weights: no .safetensors file", DOWNLOAD_AGAIN
    if others:
        what += f", only {' and '.join(sorted(set(others.values())))}"
        gguf = next((path for path in others if path.suffix == ".gguf"), None)
        fix = SAFETENSORS if gguf is None else f"give the file itself: {gguf}"
    return UserError(what=what, where=str(folder), fix=fix)


def shard_names(folder: Path) -> list[str]:
    """Return the weight files listed in a folder's index, sorted; empty without an index."""
    return sorted(set(_index(folder).values()))


def _index(folder: Path) -> dict[str, str]:
    """Tensor name → shard name; empty without an index file, or if it describes other weights than those there."""
    entries = _read_index(folder)
    shards = set(entries.values())
    if all((folder / name).is_file() for name in shards) or not _besides_index(folder, entries):
        return entries
    warn_once(f"{folder / INDEX_NAME} names weight files that are not there; the other weight files are used")
    return {}


def _besides_index(folder: Path, entries: Mapping[str, str]) -> list[Path]:
    """Weight files that the index does not name."""
    return [path for path in sorted(folder.glob("model*.safetensors")) if path.name not in set(entries.values())]


def _read_index(folder: Path) -> dict[str, str]:
    path = folder / INDEX_NAME
    if not path.is_file():
        return {}
    entries: dict[str, str] = read_object(path, {"weight_map": _SHARD_NAMES}).get("weight_map") or {}
    outside = sorted({shard for shard in entries.values() if Path(shard).name != shard})
    if outside:
        raise UserError(
            what="the index names files outside its folder",
            details=outside,
            where=str(path),
            fix="use a checkpoint whose shards are in the same folder as its index",
        )
    return entries


def _read_header(path: Path) -> dict[str, TensorHeader]:
    try:
        on_disk = path.stat().st_size
        with path.open("rb") as file:
            prefix = file.read(8)
            if prefix == b"version ":
                raise _Damaged("is a git-lfs pointer, not the weights (`git lfs pull` downloads them)")
            length = int.from_bytes(prefix, "little")
            if len(prefix) < 8 or length > MAX_HEADER_BYTES:
                raise _Damaged(f"is not a safetensors file ({on_disk} bytes)")
            if 8 + length > on_disk:
                raise _Damaged(f"is truncated within its header ({on_disk} of {8 + length} bytes or more)")
            header = json.loads(file.read(length), parse_constant=_refuse_constant)
    except OSError as error:
        raise _Damaged(f"cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise _Damaged("has a header that is not JSON") from None
    try:
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        tensors = {name: _tensor(name, entry, path, 8 + length) for name, entry in entries.items()}
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        expected = 8 + length + int(end)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError):
        raise _Damaged("has a header that does not describe tensors") from None
    if on_disk < expected:
        raise _Damaged(f"is truncated: {on_disk:,} of {expected:,} bytes are present")
    return tensors


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _tensor(name: str, entry: dict[str, Any], path: Path, origin: int) -> TensorHeader:
    start, end = entry["data_offsets"]
    shape = tuple(int(length) for length in entry["shape"])
    return TensorHeader(name, str(entry["dtype"]), shape, int(end) - int(start), path, origin + int(start))


def _unreadable(problems: list[str], where: Path) -> UserError:
    return UserError(what="the weights cannot be read", details=problems, where=str(where), fix=DOWNLOAD_AGAIN)
