"""Adapters of a tied embedding: conversion between one adapter and separate ones for embedding and head.

A tied head multiplies by the embedding matrix E + scale · AB, so an adapter of the head has the transposes:
`lm_head.lora_a` = Bᵀ (d, r) and `lm_head.lora_b` = Aᵀ (r, V).
"""

from dataclasses import replace

import mlx.core as mx

from mlx_suite.adapters.config import Adapter, last_part

EMBEDDING, HEAD = "embed_tokens", "lm_head"


def with_own_head(adapter: Adapter) -> Adapter:
    """The same adapter with the tied head as a separate layer."""
    [path] = [target for target in adapter.targets if last_part(target) == EMBEDDING] or [""]
    if not path:
        return adapter
    a, b = adapter.arrays[f"{path}.lora_a"], adapter.arrays[f"{path}.lora_b"]
    head = {f"{HEAD}.lora_a": mx.contiguous(b.T), f"{HEAD}.lora_b": mx.contiguous(a.T)}
    modules = tuple(dict.fromkeys((*adapter.config.modules, HEAD)))
    return replace(
        adapter, config=replace(adapter.config, modules=modules), arrays={**adapter.arrays, **head}, tied=False
    )


def tied_together(adapter: Adapter) -> Adapter:
    """Merge equal adapters of embedding and head into one; sets `tied` accordingly."""
    paths = {last_part(target): target for target in adapter.targets}
    if EMBEDDING not in paths:
        return replace(adapter, tied=False) if HEAD in paths else adapter
    one, other = paths[EMBEDDING], paths.get(HEAD)
    arrays = dict(adapter.arrays)
    if other is None or not _same(arrays, one, other):
        return replace(adapter, tied=False)
    for leaf in ("lora_a", "lora_b"):
        del arrays[f"{other}.{leaf}"]
    modules = tuple(name for name in adapter.config.modules if last_part(name) != HEAD)
    return replace(adapter, config=replace(adapter.config, modules=modules), arrays=arrays, tied=True)


def _same(arrays: dict[str, mx.array], embedding: str, head: str) -> bool:
    pairs = [(f"{embedding}.lora_a", f"{head}.lora_b"), (f"{embedding}.lora_b", f"{head}.lora_a")]
    if not all(name in arrays for pair in pairs for name in pair):
        return False
    return all(
        arrays[one].shape == arrays[other].T.shape and mx.array_equal(arrays[one], arrays[other].T).item()
        for one, other in pairs
    )
