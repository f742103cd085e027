"""Several adapters on one base model: each gets a model of its own that shares the base's weights."""

import copy
from typing import Any

import mlx.nn as nn


def share_weights(model: nn.Module) -> nn.Module:
    """A model with the same arrays in modules of its own, so that an adapter can be attached to it alone.

    No array is copied.
    """
    shared = _shared(model)
    assert isinstance(shared, nn.Module)
    return shared


def _shared(value: Any) -> Any:
    if isinstance(value, nn.Module):
        module = copy.copy(value)  # a dict of arrays and modules, with the other attributes
        for name, each in value.items():
            module[name] = _shared(each)
        return module
    if isinstance(value, dict):
        return {name: _shared(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_shared(each) for each in value)
    return value
