"""Trained rows of embedding and head in an adapter: PEFT's `trainable_token_indices`.

Shapes: n trained rows, d hidden size, V vocabulary.
"""

from collections.abc import Mapping, Sequence

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from mlx_suite.adapters.config import TokenRows, last_part
from mlx_suite.adapters.mlx_layout import ROWS as LEAF
from mlx_suite.adapters.tied import EMBEDDING, HEAD
from mlx_suite.modeling.dora import dtype_of
from mlx_suite.modeling.trained_rows import TABLES, TrainedRows, layers_with_rows


def add_token_rows(model: nn.Module, ids: Sequence[int]) -> dict[str, TrainedRows]:
    """Train rows of the embedding, and of an untied head, for the tokens `ids`; the layers by path.

    The rows start as the model's own, so its output is unchanged. Everything else must be frozen already.
    """
    paths = [path for path, module in model.named_modules() if _has_rows(path, module)]
    assert any(last_part(path) == EMBEDDING for path in paths), "the model's embedding is unknown"
    attach_rows(model, {path: (ids, None) for path in paths})
    return layers_with_rows(model)


def attach_rows(model: nn.Module, rows: Mapping[str, tuple[Sequence[int], mx.array | None]]) -> None:
    """Give tokens rows of their own in the layers at the paths of `rows`: the values, or None for the layer's."""
    modules = dict(model.named_modules())
    layers = []
    for path, (ids, values) in rows.items():
        table = modules[path]
        layer = TrainedRows(table, ids, None if values is None else values.astype(dtype_of(table)))
        layer.train(model.training)
        layers.append((path, layer))
    if layers:
        model.update_modules(tree_unflatten(layers))


def rows_of(model: nn.Module) -> dict[str, TokenRows]:
    """The trained rows of a model, by path."""
    return {
        path: TokenRows(ids=layer.token_ids, values=layer.token_rows) for path, layer in layers_with_rows(model).items()
    }


def misfits(modules: Mapping[str, nn.Module], rows: Mapping[str, TokenRows]) -> list[str]:
    """One line for each layer whose trained rows do not fit a model."""
    problems = []
    for path, each in rows.items():
        table = modules.get(path)
        if table is None or not isinstance(table, TABLES):
            problems.append(f"{path} is not an embedding or head of this model")
            continue
        count, width = table.weight.shape
        if "scales" in table:
            width = width * 32 // table.bits
        if each.values.shape != (len(each.ids), width):
            problems.append(f"{path}.{LEAF} is {each.values.shape}, not {(len(each.ids), width)}")
        outside = [index for index in each.ids if not 0 <= index < count]
        if outside:
            problems.append(f"{path}.{LEAF} has token {outside[0]}, and the model has {count:,} rows")
        if len(set(each.ids)) < len(each.ids):
            problems.append(f"{path}.{LEAF} has a token twice")
    return problems


def _has_rows(path: str, module: nn.Module) -> bool:
    return isinstance(module, TABLES) and (last_part(path) == EMBEDDING or path == HEAD)
