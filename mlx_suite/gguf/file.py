"""The header of a GGUF file: metadata and the list of tensors, read without any weights.

Layout (ggml's `docs/gguf.md`), all little endian: `GGUF` · version · number of tensors · number of keys · the keys with
their values · name, shape, type and offset of each tensor · padding · tensor bytes. Strings and arrays begin with their
length. A file may be split into parts (`NAME-00001-of-00003.gguf`), each with a header and tensors of its own.
"""

import hashlib
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mlx_suite.runtime.errors import UserError, shortened

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32
"""Alignment of tensor bytes, unless `general.alignment` says otherwise."""
PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")

DOWNLOAD_AGAIN = "download the file again"

_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    7: "|b1",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
"""numpy dtypes of the value types."""


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """A tensor as its file describes it."""

    name: str
    shape: tuple[int, ...]
    """Rows first, as in a Hugging Face checkpoint; the file lists dimensions the other way round."""
    type: str
    """Name of the type, such as `Q4_K`."""
    offset: int
    """First byte in `file`."""
    nbytes: int
    file: Path

    @property
    def size(self) -> int:
        """Number of weights."""
        return prod(self.shape)


@dataclass(frozen=True)
class GgufFile:
    """Metadata and tensors of a GGUF file, or of all parts of a split one."""

    path: Path
    metadata: Mapping[str, Any]
    """Values by key: Python values, lists of strings, and numpy arrays for arrays of numbers."""
    tensors: Mapping[str, GgufTensor]
    header_digest: str
    """SHA-256 of the header bytes of all parts."""

    @cached_property
    def parts(self) -> tuple[Path, ...]:
        """The files that hold tensors, in order."""
        return tuple(dict.fromkeys(tensor.file for tensor in self.tensors.values()))

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the architecture, such as `gemma3`."""
        return str(self.metadata.get("general.architecture", ""))


class _Damaged(Exception):
    """Reason why a file cannot be read."""


def is_gguf(path: Path) -> bool:
    """Whether the path is a file that begins as GGUF files do; Ollama's have no suffix."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def open_gguf(path: Path) -> GgufFile:
    """Read the header of a GGUF file, and of all parts if it is one part of a split file.

    Raises UserError if the file is missing, not GGUF, big-endian, of version 1, truncated or otherwise damaged, or if
    a part is missing.
    """
    metadata: dict[str, Any] = {}
    tensors: dict[str, GgufTensor] = {}
    digest = hashlib.sha256()
    parts = _parts(path)
    for part in parts:
        try:
            with part.open("rb") as file:
                reader = _Reader(file, part.stat().st_size)
                keys, found = _read(reader, part)
        except OSError as error:
            raise UserError(
                f"the file cannot be read: {error.strerror or error}", str(part), "check the path"
            ) from None
        except _Damaged as damage:
            raise UserError(str(damage), where=str(part), fix=DOWNLOAD_AGAIN) from None
        metadata = keys | metadata  # the first part holds the model's own
        tensors |= found
        digest.update(reader.digest.digest())
    if int(metadata.get("split.count", 1)) > len(parts):
        raise UserError(
            f"the file is one of {metadata['split.count']} parts, and its name does not say which",
            where=str(path),
            fix="name the parts NAME-00001-of-00003.gguf and so on, as they were published",
        )
    return GgufFile(path, metadata, tensors, digest.hexdigest())


def read_general(path: Path) -> dict[str, Any]:
    """The keys `general.*` at the beginning of a file (name, architecture, licence, …), without reading the vocabulary.

    Empty for a file that cannot be read; `open_gguf` says why.
    """
    keys: dict[str, Any] = {}
    try:
        with path.open("rb") as file:
            reader = _Reader(file, path.stat().st_size)
            _, num_keys = _counts(reader, path)
            for _ in range(num_keys):
                key = reader.string()
                if key.startswith("tokenizer."):
                    break
                keys[key] = reader.value(reader.number("<I"))
    except (OSError, UserError, _Damaged):
        return {}
    return {key: value for key, value in keys.items() if key.startswith("general.")}


def read_through_header(file: BinaryIO, size: int, path: Path) -> None:
    """Read the header of a GGUF file of `size` bytes from `file`, and nothing after it.

    Raises UserError as `open_gguf` does, for a file called `path`.
    """
    try:
        _read(_Reader(file, size), path)
    except _Damaged as damage:
        raise UserError(str(damage), where=str(path), fix=DOWNLOAD_AGAIN) from None


def _parts(path: Path) -> list[Path]:
    """All parts of a split file, or the file itself. Raises UserError if parts are missing."""
    match = PART.fullmatch(path.name)
    if match is None or int(match["count"]) < 2:
        return [path]
    count = int(match["count"])
    parts = [path.with_name(f"{match['stem']}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)]
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} of the {count} parts of this file are missing",
            details=shortened(missing),
            where=str(path.parent),
            fix="download all parts into one folder",
        )
    return parts


class _Reader:
    """Reads values of the format in order, and hashes what it reads."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self.size = file, size
        self.position = 0
        self.digest = hashlib.sha256()

    def take(self, count: int) -> bytes:
        if self.position + count > self.size:
            raise _Damaged(f"the file is truncated within its header ({self.size:,} bytes)")
        data = self._file.read(count)
        self.position += count
        self.digest.update(data)
        return data

    def number(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def string(self) -> str:
        return self.take(self.number("<Q")).decode("utf-8", errors="replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self._array()
        return self._numbers(kind, 1)[0].item()

    def _array(self) -> Any:
        kind, length = self.number("<I"), self.number("<Q")
        if kind == _STRING:
            return [self.string() for _ in range(length)]
        if kind == _ARRAY:
            return [self._array() for _ in range(length)]
        return self._numbers(kind, length)

    def _numbers(self, kind: int, length: int) -> np.ndarray[Any, Any]:
        if kind not in _SCALARS:
            raise _Damaged(f"the header holds a value of type {kind}, which GGUF does not have")
        dtype = np.dtype(_SCALARS[kind])
        return np.frombuffer(self.take(dtype.itemsize * length), dtype)


def _read(reader: _Reader, path: Path) -> tuple[dict[str, Any], dict[str, GgufTensor]]:
    """Metadata and tensors of one file."""
    num_tensors, num_keys = _counts(reader, path)
    metadata: dict[str, Any] = {}
    for _ in range(num_keys):
        key = reader.string()
        metadata[key] = reader.value(reader.number("<I"))
    listed = [_tensor_info(reader) for _ in range(num_tensors)]
    alignment = int(metadata.get("general.alignment", ALIGNMENT))
    if alignment < 1 or alignment & (alignment - 1):
        raise _Damaged(f"general.alignment is {alignment}, not a power of two")
    start = -(-reader.position // alignment) * alignment
    tensors = {}
    for name, shape, type_number, offset in listed:
        type_name, num_bytes = _stored(name, shape, type_number, path)
        tensors[name] = GgufTensor(name, shape, type_name, start + offset, num_bytes, path)
    end = max((tensor.offset + tensor.nbytes for tensor in tensors.values()), default=0)
    if end > reader.size:
        raise _Damaged(f"the file is truncated: {reader.size:,} of {end:,} bytes are present")
    return metadata, tensors


def _counts(reader: _Reader, path: Path) -> tuple[int, int]:
    """The beginning of a file: its numbers of tensors and keys. Raises _Damaged or UserError if it is not ours."""
    if reader.size < 24 or reader.take(4) != MAGIC:
        raise UserError(
            f"this is not a GGUF file ({reader.size:,} bytes)",
            str(path),
            "name a GGUF file, or download this one again if it should be one",
        )
    version = reader.number("<I")
    if version & 0xFFFF == 0:
        raise UserError(
            "the GGUF file is big-endian", str(path), "use the file for little-endian machines, the usual one"
        )
    if version not in VERSIONS:
        raise UserError(
            f"the GGUF file has version {version}; {' and '.join(map(str, VERSIONS))} are supported",
            where=str(path),
            fix="use a newer file of the same model" if version < VERSIONS[0] else "update mlx-suite",
        )
    return reader.number("<Q"), reader.number("<Q")


def _tensor_info(reader: _Reader) -> tuple[str, tuple[int, ...], int, int]:
    name, dimensions = reader.string(), reader.number("<I")
    if dimensions > 8:
        raise _Damaged(f"the header is damaged: {name[:40]!r} has {dimensions} dimensions")
    shape = tuple(reader.number("<Q") for _ in range(dimensions))[::-1]
    return name, shape, reader.number("<I"), reader.number("<Q")


def _stored(name: str, shape: tuple[int, ...], number: int, path: Path) -> tuple[str, int]:
    """Type name and size in bytes of a tensor. Raises UserError for a type that the gguf package does not know."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        kind = GGMLQuantizationType(number)
    except ValueError:
        raise UserError(
            f"{name} has type number {number}, which the gguf package does not know",
            where=str(path),
            fix="update it (pip install -U gguf), or use a file of another type",
        ) from None
    block, block_bytes = GGML_QUANT_SIZES[kind]
    if shape and shape[-1] % block:
        raise _Damaged(f"the header is damaged: rows of {name} have {shape[-1]} columns, not blocks of {block}")
    return kind.name, prod(shape) // block * block_bytes
