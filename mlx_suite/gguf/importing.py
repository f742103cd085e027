"""Import of a GGUF file: a checkpoint folder in Hugging Face's layout, dense or with MLX's quantized layers.

Weights are read, converted and written a few rows at a time, so neither file is ever in memory as a whole.
"""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from mlx_suite.checkpoints.config_file import write_config
from mlx_suite.checkpoints.quantization import LayerQuantization, to_config
from mlx_suite.checkpoints.save import refuse_other_folder
from mlx_suite.checkpoints.weight_writer import WeightWriter, weight_writer
from mlx_suite.checkpoints.weights import FLOATS, as_dtype, dtype_name
from mlx_suite.gguf.chat_templates import KEY as TEMPLATE_KEY
from mlx_suite.gguf.file import GgufFile, open_gguf
from mlx_suite.gguf.model_config import GEMMA_TYPES, config_of
from mlx_suite.gguf.repack import GROUP, repack
from mlx_suite.gguf.tensors import expanded, stored_rows
from mlx_suite.gguf.vocabulary import write_tokenizer
from mlx_suite.gguf.weights import GgufWeight, weights_of
from mlx_suite.runtime.device import device
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import staged_folder

SOURCE_FILE = "gguf_source.json"
"""Says in an imported checkpoint which file it was made from, and how."""
IMPORTER = 1
"""Raised when the importer's result for the same file changes."""
HEAD = 1 << 20
"""Bytes at the beginning of a file that are hashed to recognise it."""

ROOM = 100_000_000
"""Bytes of disk needed besides the weights, for the tokenizer."""

OnBytes = Callable[[int, int], None]
"""Called with the bytes of the GGUF file that are done, and their total."""


@dataclass(frozen=True, kw_only=True)
class Imported:
    """Result of an import."""

    folder: Path
    source: Path
    name: str | None
    """The model's name by its metadata."""
    model_type: str
    parameters: int
    types: Mapping[str, int]
    """Number of weights of each GGUF type."""
    dtype: str
    """Dtype of the dense weights, and of scales."""
    packed: int
    """Matrices repacked into MLX's quantized layout."""
    bytes_read: int
    bytes_written: int
    licence: str | None
    missing: tuple[str, ...]
    """What the file does not hold."""


def import_gguf(
    path: Path,
    out: Path,
    *,
    packed: bool | None = None,
    dtype: mx.Dtype | str | None = None,
    chat_template: str | None = None,
    on_bytes: OnBytes | None = None,
) -> Imported:
    """Write the model of a GGUF file to the checkpoint folder `out`, atomically; an existing checkpoint is replaced.

    Args:
        path: The file; of a split file any part.
        packed: Whether matrices of 4, 5 and 8 bits become MLX's quantized layers with the same codes. None: on a GPU.
        dtype: Dtype of dense weights and scales: float32, bfloat16 or float16. None: that of a file in one of these;
            else bfloat16, or float16 with `packed`, which keeps scales exactly, except for Gemma, which overflows it.
        chat_template: A Jinja template instead of the file's.

    Raises UserError for a file that is damaged or holds something else, for architectures and types that cannot be
    imported, a tokenizer that cannot be rebuilt, a folder with other files, and disk errors.
    """
    refuse_other_folder(out)
    gguf = open_gguf(path)
    config, missing = config_of(gguf)
    source = source_of(path, packed, dtype)
    packed = source["packed"]
    weights = weights_of(gguf, config, packed)
    target = as_dtype(dtype) if dtype is not None else _usual_dtype(gguf, packed)
    stored = next(name for name, known in FLOATS.items() if known == target)
    plan = [tensor for weight in weights for tensor in weight.planned(stored)]
    size = sum(tensor.nbytes for tensor in plan)
    _check_disk(out, size)

    layers = {w.path: LayerQuantization(group_size=GROUP, bits=w.bits) for w in weights if w.bits}
    config["torch_dtype"] = config["dtype"] = dtype_name(target)
    if layers:
        config["quantization"] = config["quantization_config"] = to_config(layers)
    with staged_folder(out) as staged:
        write_config(staged, config)
        (staged / SOURCE_FILE).write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")
        metadata = gguf.metadata if chat_template is None else {**gguf.metadata, TEMPLATE_KEY: chat_template}
        missing += write_tokenizer(metadata, staged)
        with weight_writer(staged, plan) as writer:
            _write_all(writer, weights, target, on_bytes or (lambda done, total: None))
    return Imported(
        folder=out,
        source=path,
        name=gguf.metadata.get("general.name"),
        model_type=config["model_type"],
        parameters=sum(weight.tensor.size for weight in weights),
        types=_weights_by_type(gguf),
        dtype=dtype_name(target),
        packed=len(layers),
        bytes_read=sum(part.stat().st_size for part in gguf.parts),
        bytes_written=size,
        licence=gguf.metadata.get("general.license"),
        missing=tuple(missing),
    )


def checkpoint_bytes(gguf: GgufFile, *, packed: bool, dtype: mx.Dtype | str | None = None) -> int:
    """Bytes of the weights that `import_gguf` would write, from the header alone.

    Raises UserError as `import_gguf` does, for architectures, tensors and types that cannot be imported.
    """
    config, _ = config_of(gguf)
    weights = weights_of(gguf, config, packed)
    target = as_dtype(dtype) if dtype is not None else _usual_dtype(gguf, packed)
    stored = next(name for name, known in FLOATS.items() if known == target)
    return sum(tensor.nbytes for weight in weights for tensor in weight.planned(stored))


def source_of(path: Path, packed: bool | None = None, dtype: mx.Dtype | str | None = None) -> dict[str, Any]:
    """What `SOURCE_FILE` says of a file imported with these arguments now: the same again only if nothing changed.

    Raises UserError if the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.sha256(file.read(HEAD)).hexdigest()
        facts = path.stat()
    except OSError as error:
        raise UserError(f"the file cannot be read: {error.strerror}", str(path), "check the path") from None
    return {
        "file": str(path.resolve()),
        "bytes": facts.st_size,
        "changed_ns": facts.st_mtime_ns,
        "sha256_of_first_mebibyte": digest,
        "packed": device().kind != "cpu" if packed is None else packed,
        "dtype": None if dtype is None else dtype_name(as_dtype(dtype)),
        "importer": IMPORTER,
    }


def _usual_dtype(gguf: GgufFile, packed: bool) -> mx.Dtype:
    types = {tensor.type for tensor in gguf.tensors.values() if len(tensor.shape) > 1}
    if len(types) == 1 and (only := next(iter(types))) in FLOATS:
        return FLOATS[only]
    return mx.float16 if packed and gguf.architecture not in GEMMA_TYPES else mx.bfloat16


def _write_all(writer: WeightWriter, weights: list[GgufWeight], dtype: mx.Dtype, on_bytes: OnBytes) -> None:
    total = sum(weight.tensor.nbytes for weight in weights)
    done = 0
    for weight in weights:
        scales: list[tuple[np.ndarray, np.ndarray]] = []
        for rows in stored_rows(weight.tensor, weight.row_order):
            if weight.bits:
                codes, *rest = repack(rows, weight.tensor.type)
                writer.write(weight.name, codes)
                scales.append((_as_stored(rest[0], dtype, weight), _as_stored(rest[1], dtype, weight)))
            else:
                values = expanded(rows, weight.tensor.type)
                writer.write(weight.name, _as_stored(values + weight.shift if weight.shift else values, dtype, weight))
            done += rows.nbytes
            on_bytes(done, total)
        for number, part in enumerate(("scales", "biases")):
            for pair in scales:
                writer.write(f"{weight.path}.{part}", pair[number])


def _as_stored(values: np.ndarray, dtype: mx.Dtype, weight: GgufWeight) -> np.ndarray:
    """fp32 values in the bits of `dtype`. Raises UserError for values that are, or become, NaN or inf."""
    narrow = mx.array(values).astype(dtype)
    if not mx.isfinite(narrow).all().item():
        if np.isfinite(values).all():
            raise UserError(
                f"{weight.tensor.name} has values that {dtype_name(dtype)} cannot hold",
                where=str(weight.tensor.file),
                fix="choose the dtype bfloat16 or float32",
            )
        raise UserError(
            f"{weight.tensor.name} contains NaN or inf: the file is damaged",
            where=str(weight.tensor.file),
            fix="download the file again",
        )
    return np.array(narrow.view(mx.uint16) if dtype == mx.bfloat16 else narrow)


def _weights_by_type(gguf: GgufFile) -> dict[str, int]:
    sizes: Counter[str] = Counter()
    for tensor in gguf.tensors.values():
        sizes[tensor.type] += tensor.size
    return dict(sizes.most_common())


def _check_disk(out: Path, size: int) -> None:
    place = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    if size + ROOM > free:
        raise UserError(
            f"the disk is too full: {(size + ROOM) / 1e9:.1f} GB to write, {free / 1e9:.1f} GB free",
            where=str(out),
            fix="free some space, or choose another disk",
        )
