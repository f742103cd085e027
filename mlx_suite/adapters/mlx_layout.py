"""mlx-lm's adapter layout: `adapters.safetensors` and `adapter_config.json`.

mlx-lm adapts the layers in `keys` within the last `num_layers` blocks, and any layer whose full path is in `keys`;
other blocks are therefore written with full paths. It has a single rank and scale, so matrices of lower rank are padded
with zeros.

Our own settings are in the table `mlx_suite` of the same file, which mlx-lm ignores. It ignores trained rows of the
embedding too (`PATH.token_rows`, with their token ids in that table): fuse the adapter to use them there.

Shapes: N inputs, O outputs, r rank; experts (E) have `lora_a` (E, r, N) and `lora_b` (E, O, r).
"""

import json
from collections.abc import Mapping
from math import isclose
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_suite.adapters.config import Adapter, AdapterConfig, TokenRows, last_part, places, ranks
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.json_file import FLAG, NUMBER, OBJECT, POSITIVE, TEXT, TEXTS, WHOLES, by_name, check_kinds

WEIGHTS = "adapters.safetensors"
CONFIG = "adapter_config.json"
OURS = "mlx_suite"
"""Key of the table of our own settings."""
ROWS, TOKEN_IDS = "token_rows", "token_ids"
"""Leaf of the trained rows of a layer, and the setting that holds their token ids."""


KEYS = {"fine_tune_type": TEXT, "model": TEXT, "lora_parameters": OBJECT, OURS: OBJECT}
PARAMETER_KEYS = {"rank": POSITIVE, "scale": NUMBER, "dropout": NUMBER}
OUR_KEYS = {
    "rank": POSITIVE,
    "alpha": NUMBER,
    "rslora": FLAG,
    "modules": TEXTS,
    "layers": WHOLES,
    "tied": FLAG,
    TOKEN_IDS: by_name(WHOLES),
}
"""Keys that are read of the settings, of `lora_parameters` and of our own table, and what they must be."""


def write_mlx(folder: Path, adapter: Adapter, blocks: int | None) -> None:
    """Write both files into the existing `folder`; `blocks` is the model's number of blocks, None if unknown."""
    rank = max(ranks(adapter.arrays).values())
    number, keys = _where(adapter, blocks)
    config = adapter.config
    settings = {
        "fine_tune_type": config.method,
        "model": adapter.base,
        "num_layers": number,
        "lora_parameters": {
            "rank": rank,
            "scale": config.scale,
            "dropout": config.dropout,
            "keys": keys,
        },
        OURS: {
            "rank": config.rank,
            "alpha": config.alpha,
            "rslora": config.rslora,
            "modules": list(config.modules),
            "layers": None if config.layers is None else list(config.layers),
            "tied": adapter.tied,
            **({TOKEN_IDS: {path: list(rows.ids) for path, rows in adapter.rows.items()}} if adapter.rows else {}),
        },
    }
    arrays = {name: _filled(name, array, rank) for name, array in adapter.arrays.items()}
    arrays |= {f"{path}.{ROWS}": rows.values for path, rows in adapter.rows.items()}
    mx.save_safetensors(str(folder / WEIGHTS), arrays, metadata={"format": "mlx"})
    (folder / CONFIG).write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_mlx(folder: Path, settings: Mapping[str, Any], arrays: Mapping[str, mx.array]) -> Adapter:
    """Read an adapter from its settings and arrays. Raises UserError that lists every missing or unknown setting."""
    where = str(folder / CONFIG)
    check_kinds(settings, KEYS, folder / CONFIG)
    method = settings.get("fine_tune_type") or "lora"
    if method == "full":
        raise UserError(
            "This folder contains a fully finetuned model, not an adapter",
            where=where,
            fix="convert it to a model with mlx_lm.fuse",
        )
    parameters: Mapping[str, Any] = settings.get("lora_parameters") or {}
    problems = [f"lora_parameters has no {name}" for name in ("rank", "scale") if parameters.get(name) is None]
    if method not in ("lora", "dora"):
        problems.append(f"fine_tune_type is {method!r}: expected lora, dora or full")
    if problems:
        raise UserError("The adapter's settings cannot be used", details=problems, where=where, fix="correct the file")
    given: Mapping[str, Any] = settings.get(OURS) or {}
    check_kinds(parameters, PARAMETER_KEYS, folder / CONFIG)
    check_kinds(given, OUR_KEYS, folder / CONFIG)
    rank, scale = int(parameters["rank"]), float(parameters["scale"])
    ours = {name: value for name, value in given.items() if value is not None}
    arrays, rows = _without_rows(arrays, ours.get(TOKEN_IDS) or {}, where)
    config = AdapterConfig(
        method=method,
        rank=int(ours.get("rank", rank)),
        alpha=float(ours.get("alpha", scale * rank)),
        rslora=bool(ours.get("rslora", False)),
        dropout=float(parameters.get("dropout") or 0.0),
        modules=tuple(ours["modules"]) if "modules" in ours else modules_of(arrays),
        layers=_layers(given, arrays),
    )
    if not isclose(config.scale, scale, rel_tol=1e-6):
        raise UserError(
            f"The adapter's scale is {scale:g} for mlx-lm and alpha / rank = {config.scale:g} for us",
            where=where,
            fix=f"remove the table {OURS!r} from the file, so that the scale is used",
        )
    return Adapter(
        config=config,
        arrays=arrays,
        base=str(settings.get("model") or ""),
        tied=ours.get("tied"),
        rows=rows,
    )


def _without_rows(
    arrays: Mapping[str, mx.array], ids: Mapping[str, list[int]], where: str
) -> tuple[dict[str, mx.array], dict[str, TokenRows]]:
    """The arrays of low-rank layers, and the trained rows by path. Raises UserError if their token ids are missing."""
    stored = {name.rpartition(".")[0]: array for name, array in arrays.items() if last_part(name) == ROWS}
    if stored.keys() != ids.keys():
        raise UserError(
            "The adapter's trained rows do not match their token ids",
            details=[f"{path} has only one of them" for path in sorted(stored.keys() ^ ids.keys())],
            where=where,
            fix="restore both files of the adapter",
        )
    low_rank = {name: array for name, array in arrays.items() if last_part(name) != ROWS}
    return low_rank, {path: TokenRows(ids=tuple(ids[path]), values=array) for path, array in stored.items()}


def modules_of(arrays: Mapping[str, mx.array]) -> tuple[str, ...]:
    """The last path components of all adapted layers, sorted."""
    return tuple(sorted({last_part(name.rpartition(".")[0]) for name in arrays}))


def _layers(ours: Mapping[str, Any], arrays: Mapping[str, mx.array]) -> tuple[int, ...] | None:
    """The requested blocks; for a file written by mlx-lm, which counts from the end, the blocks found in the arrays."""
    if "layers" in ours:
        return None if ours["layers"] is None else tuple(ours["layers"])
    return places(name.rpartition(".")[0] for name in arrays).blocks or None


def _where(adapter: Adapter, blocks: int | None) -> tuple[int, list[str]]:
    """`num_layers` and `keys` that select exactly the adapted layers."""
    found = places(adapter.targets)
    number = len(found.blocks)
    if blocks is not None and number and found.regular and found.blocks == tuple(range(blocks - number, blocks)):
        return number, [*found.inside, *found.outside]
    # Full paths, which match nothing within a block. At least 1: in mlx-lm the last 0 blocks are all blocks.
    return max(1, number), list(adapter.targets)


def _filled(name: str, array: mx.array, rank: int) -> mx.array:
    """`array` padded with zeros to `rank`."""
    leaf = last_part(name)
    if leaf == "m":
        return array
    axis = {("lora_a", 2): 1, ("lora_b", 2): 0, ("lora_a", 3): 1, ("lora_b", 3): 2}[leaf, array.ndim]
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, rank - array.shape[axis])
    return mx.pad(array, widths) if widths[axis][1] else array
