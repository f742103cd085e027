"""Weight files written piece by piece, so that a model need not be in memory.

Layout: see `safetensors_header`. Shapes and dtypes of all tensors are known before the first byte, so the header comes
first and the bytes follow in its order.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mlx_suite.checkpoints.safetensors_header import INDEX_NAME

GIGABYTE = 1_000_000_000
SHARD_BYTES = 5 * GIGABYTE
"""Maximum size of a weight file; a larger tensor is the only one in its file."""

METADATA = {"format": "pt"}
"""transformers rejects files without it."""

DTYPE_SIZES: Mapping[str, int] = {"F32": 4, "BF16": 2, "F16": 2, "U32": 4}
_ALIGNMENT = 8


@dataclass(frozen=True, slots=True)
class PlannedTensor:
    """A tensor to be written."""

    name: str
    dtype: str
    """Name in the format."""
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * DTYPE_SIZES[self.dtype]


def shards_of(sizes: Mapping[str, int], max_bytes: int = SHARD_BYTES) -> dict[str, list[str]]:
    """File names, and the tensors of each, in the given order; `sizes` are in bytes."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if shards[-1] and filled + size > max_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    if len(shards) == 1:
        return {"model.safetensors": shards[0]}
    return {f"model-{number:05}-of-{len(shards):05}.safetensors": shard for number, shard in enumerate(shards, start=1)}


def write_index(folder: Path, shards: Mapping[str, Sequence[str]], total_bytes: int) -> None:
    """Write the index of a model that has more than one weight file."""
    if len(shards) > 1:
        places = {name: file for file, names in shards.items() for name in names}
        index = {"metadata": {"total_size": total_bytes}, "weight_map": dict(sorted(places.items()))}
        (folder / INDEX_NAME).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


class WeightWriter:
    """Takes the bytes of the planned tensors, in order."""

    def __init__(self, folder: Path, plan: Sequence[PlannedTensor], max_bytes: int) -> None:
        self._folder = folder
        self._plan = {tensor.name: tensor for tensor in plan}
        self._shards = shards_of({tensor.name: tensor.nbytes for tensor in plan}, max_bytes)
        self._first = {names[0]: file for file, names in self._shards.items() if names}
        self._file: BinaryIO | None = None
        self._waiting = iter(plan)
        self._open: tuple[str, int] = ("", 0)
        write_index(folder, self._shards, sum(tensor.nbytes for tensor in plan))

    def write(self, name: str, piece: np.ndarray[Any, Any]) -> None:
        """Append the next bytes of tensor `name`, which is the one being written or the next one of the plan."""
        current, missing = self._open
        if name != current:
            assert not missing, f"{current} lacks {missing} bytes"
            planned = next(self._waiting, None)
            assert planned is not None and planned.name == name, f"{name} is not next in the plan"
            missing = planned.nbytes
            if name in self._first:
                self._begin(self._first[name])
        assert piece.nbytes <= missing, f"{name} has more bytes than planned"
        assert self._file is not None
        self._file.write(np.ascontiguousarray(piece).data.cast("B"))
        self._open = (name, missing - piece.nbytes)

    def finish(self) -> None:
        """Close the last file. All tensors must have been written."""
        assert not self._open[1] and next(self._waiting, None) is None, "tensors are missing"
        self.close()

    def close(self) -> None:
        """Close the open file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self, file: str) -> None:
        self.close()
        self._file = (self._folder / file).open("wb")
        self._file.write(_header(self._plan[name] for name in self._shards[file]))


@contextmanager
def weight_writer(folder: Path, plan: Sequence[PlannedTensor], max_bytes: int = SHARD_BYTES) -> Iterator[WeightWriter]:
    """Weight files of `folder`, and their index; every planned tensor must be written within the block."""
    files = WeightWriter(folder, plan, max_bytes)
    try:
        yield files
        files.finish()
    finally:
        files.close()


def _header(tensors: Iterable[PlannedTensor]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": METADATA}
    end = 0
    for tensor in tensors:
        start, end = end, end + tensor.nbytes
        entries[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
