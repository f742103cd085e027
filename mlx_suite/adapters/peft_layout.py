"""PEFT's adapter layout: `adapter_model.safetensors` and `adapter_config.json`.

PEFT's arrays are the transposes of mlx-lm's:

    ours                              PEFT's, after `base_model.model.`
    PATH.lora_a (N, r)                PATH.lora_A.weight (r, N)
    PATH.lora_b (r, O)                PATH.lora_B.weight (O, r)
    PATH.m (O,)                       PATH.lora_magnitude_vector (O,)
    PATH.lora_a (V, r), embedding     PATH.lora_embedding_A (r, V)
    PATH.lora_b (r, d), embedding     PATH.lora_embedding_B (d, r)
    trained rows of PATH (n, d)       PATH.token_adapter.trainable_tokens_delta (n, d), not transposed

In PEFT each layer may have its own rank and alpha (`rank_pattern`, `alpha_pattern`); here all layers share one scale,
and the ratio of a layer's scale to it is multiplied into `lora_b`. An adapted tied embedding is two layers in PEFT;
trained rows are one layer (`trainable_token_indices` has their ids), and hold values in spite of their name.

Shapes: N inputs, O outputs, r rank, V vocabulary, d hidden size.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import isclose, sqrt
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_suite.adapters.config import Adapter, AdapterConfig, TokenRows, last_part, places, ranks
from mlx_suite.adapters.tied import EMBEDDING, HEAD, tied_together, with_own_head
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.json_file import (
    FLAG,
    NUMBER,
    POSITIVE,
    TEXT,
    TEXTS,
    WHOLE,
    WHOLES,
    Kind,
    by_name,
    check_kinds,
    either,
)

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"

_PREFIX = "base_model.model."
_KINDS = (
    (re.compile(r"(.+)\.lora_A\.weight"), "lora_a"),
    (re.compile(r"(.+)\.lora_B\.weight"), "lora_b"),
    (re.compile(r"(.+)\.lora_embedding_A"), "lora_a"),
    (re.compile(r"(.+)\.lora_embedding_B"), "lora_b"),
    (re.compile(r"(.+)\.lora_magnitude_vector(?:\.weight)?"), "m"),
)
_ROWS = re.compile(r"(.+)\.token_adapter\.trainable_tokens_delta")
_COPY = re.compile(r"(.+?)(?:\.base_layer)?\.weight")
"""Names of base weights, which PEFT saves together with an adapted embedding."""


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


_PATTERN = Kind(
    name="an object of numbers by pattern",
    holds=lambda value: by_name(NUMBER).holds(value) and all(map(_is_pattern, value)),
)
KEYS = {
    "peft_type": TEXT,
    "base_model_name_or_path": TEXT,
    "bias": TEXT,
    "lora_alpha": NUMBER,
    "lora_dropout": NUMBER,
    "use_rslora": FLAG,
    "use_dora": FLAG,
    "rank_pattern": _PATTERN,
    "alpha_pattern": _PATTERN,
    "target_modules": either(TEXT, TEXTS),
    "layers_to_transform": either(WHOLE, WHOLES),
    "trainable_token_indices": either(WHOLES, by_name(WHOLES)),
}
"""Keys of the settings that are read, and what they must be."""

_REFUSED = {
    "modules_to_save": "fully trained layers in addition to the adapter",
    "lora_bias": "a bias in the adapter's matrices",
    "layer_replication": "replicated blocks",
    "alora_invocation_tokens": "an adapter activated by certain tokens",
    "target_parameters": "adapted parameters outside of linear layers",
    "use_qalora": "QALoRA",
    "use_bdlora": "block-diagonal matrices",
    "arrow_config": "an adapter chosen for each token",
    "monteclora_config": "random adapters",
    "kasa_config": "KaSA",
}
"""Unsupported PEFT settings."""

_OTHER_BASES = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Initializations (`init_lora_weights`) that change the base weights, without which the adapter is useless."""


def read_peft(folder: Path, settings: Mapping[str, Any], arrays: Mapping[str, mx.array]) -> Adapter:
    """Read an adapter from its settings and arrays. Raises UserError that lists everything unsupported."""
    where = str(folder)
    check_kinds(settings, KEYS, folder / CONFIG)
    _refuse(settings, where)
    rows, arrays, problems = _token_rows(settings.get("trainable_token_indices"), arrays)
    found, copies, unknown = _renamed(arrays)
    problems += unknown
    rank, alpha, rslora = int(settings["r"]), float(settings.get("lora_alpha") or 8), bool(settings.get("use_rslora"))
    config = AdapterConfig(
        method="dora" if settings.get("use_dora") else "lora",
        rank=rank,
        alpha=alpha,
        rslora=rslora,
        dropout=float(settings.get("lora_dropout") or 0.0),
        modules=_modules(settings, found),
        layers=_layers(settings, found),
    )
    for path, own in ranks(found).items():
        stated = int(_of_pattern(settings.get("rank_pattern"), path, rank))
        if stated != own:
            problems.append(f"{path} has rank {own}, but the settings say {stated}")
        own_alpha = float(_of_pattern(settings.get("alpha_pattern"), path, alpha))
        scale = own_alpha / (sqrt(own) if rslora else own)
        if not isclose(scale, config.scale, rel_tol=1e-9) and f"{path}.lora_b" in found:
            found[f"{path}.lora_b"] = found[f"{path}.lora_b"] * (scale / config.scale)
    if problems or not found:
        raise UserError(
            "The adapter cannot be read" if problems else "The file contains no adapter",
            details=problems[:20] + [f"and {len(problems) - 20} more"] * (len(problems) > 20),
            where=str(folder / WEIGHTS),
            fix="save it again with PEFT's save_pretrained",
        )
    base = str(settings.get("base_model_name_or_path") or "")
    adapter = tied_together(Adapter(config=config, arrays=found, base=base, copies=copies, rows=rows))
    if settings.get("ensure_weight_tying") and not adapter.tied:
        return replace(adapter, tied=None)  # depends on the model, as in PEFT
    return adapter


def write_peft(folder: Path, adapter: Adapter) -> None:
    """Write both files into the existing `folder`.

    Raises UserError for adapted experts, and for an adapted embedding if it is unknown whether the head is tied to it.
    """
    _refuse_inexpressible(adapter)
    if adapter.tied:
        adapter = with_own_head(adapter)
    config = adapter.config
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": adapter.base or None,
        "inference_mode": True,
        "r": config.rank,
        "lora_alpha": _plain(config.alpha),
        "lora_dropout": config.dropout,
        "use_rslora": config.rslora,
        "use_dora": config.method == "dora",
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "modules_to_save": None,
        **_targets(adapter),
        **_patterns(adapter),
    }
    if adapter.rows:
        settings["trainable_token_indices"] = {last_part(path): list(rows.ids) for path, rows in adapter.rows.items()}
    arrays = {_peft_name(name): mx.contiguous(array.T) for name, array in adapter.arrays.items()}
    arrays |= {
        f"{_PREFIX}{path}.token_adapter.trainable_tokens_delta": mx.contiguous(rows.values)
        for path, rows in adapter.rows.items()
    }
    mx.save_safetensors(str(folder / WEIGHTS), arrays, metadata={"format": "pt"})
    text = json.dumps(settings, indent=2, ensure_ascii=False, sort_keys=True)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")


def _refuse(settings: Mapping[str, Any], where: str) -> None:
    problems = []
    if settings.get("peft_type") != "LORA":
        problems.append(f"peft_type is {settings.get('peft_type')!r}: only LORA (LoRA, rsLoRA and DoRA) is supported")
    if not POSITIVE.holds(settings.get("r")):
        problems.append(f"r is {settings.get('r')!r}, not a rank")
    if (bias := settings.get("bias") or "none") != "none":
        problems.append(f"bias is {bias!r}: trained biases are not supported")
    problems += [f"{name} is set: {what}" for name, what in _REFUSED.items() if settings.get(name)]
    initial = settings.get("init_lora_weights")
    if isinstance(initial, str) and initial.startswith(_OTHER_BASES):
        problems.append(f"init_lora_weights is {initial!r}, which changes the model's own weights")
    if problems:
        raise UserError(
            "mlx-suite does not support this PEFT adapter",
            details=problems,
            where=where,
            fix="merge it with PEFT (merge_and_unload, save_pretrained) and use the merged model",
        )


def _renamed(arrays: Mapping[str, mx.array]) -> tuple[dict[str, mx.array], dict[str, mx.array], list[str]]:
    """The adapter's arrays under our names, copies of base weights, and one line per unknown array."""
    found: dict[str, mx.array] = {}
    copies: dict[str, mx.array] = {}
    problems = []
    for name, array in arrays.items():
        rest = name.removeprefix(_PREFIX)
        matches = [(match[1], leaf) for pattern, leaf in _KINDS if (match := pattern.fullmatch(rest))]
        if rest == name or (matches and array.ndim != (1 if matches[0][1] == "m" else 2)):
            problems.append(f"{name} {array.shape} is not part of a LoRA adapter")
        elif matches:
            [(path, leaf)] = matches
            found[f"{path}.{leaf}"] = mx.contiguous(array.T)
        elif (copy := _COPY.fullmatch(rest)) and last_part(copy[1]) in (EMBEDDING, HEAD):
            copies[f"{copy[1]}.weight"] = array
        else:
            problems.append(f"{name} {array.shape} is not part of a LoRA adapter")
    return found, copies, problems


def _token_rows(
    indices: Any, arrays: Mapping[str, mx.array]
) -> tuple[dict[str, TokenRows], dict[str, mx.array], list[str]]:
    """The trained rows by path, the other arrays, and one line per array that does not match its token ids.

    `indices` are ids by the end of a layer's path, or a list for the embedding.
    """
    by_name: Mapping[str, Any] = indices if isinstance(indices, Mapping) else {EMBEDDING: indices or []}
    rows, rest, problems, found = {}, {}, [], set()
    for name, array in arrays.items():
        match = _ROWS.fullmatch(name.removeprefix(_PREFIX))
        if match is None:
            rest[name] = array
            continue
        path = match[1]
        key = next((key for key in by_name if path == key or path.endswith(f".{key}")), None)
        ids = tuple(map(int, by_name[key])) if key is not None else ()
        found.add(key)
        if array.ndim != 2 or len(ids) != array.shape[0]:
            problems.append(f"{name} {array.shape} has {len(ids)} token ids in trainable_token_indices")
        rows[path] = TokenRows(ids=ids, values=array)
    problems += [f"the trained rows of {key} are missing" for key, ids in by_name.items() if ids and key not in found]
    return rows, rest, problems


def _of_pattern(pattern: Any, path: str, usual: Any) -> Any:
    """A layer's value in a PEFT pattern, whose keys are regular expressions for the suffix of a path."""
    for key, value in (pattern or {}).items():
        if re.fullmatch(rf"(.*\.)?({key})", path):
            return value
    return usual


def _modules(settings: Mapping[str, Any], found: Mapping[str, mx.array]) -> tuple[str, ...]:
    """The target modules by name; if given as a regular expression, the adapted layers found."""
    named = settings.get("target_modules")
    if isinstance(named, list) and named and all(isinstance(name, str) for name in named):
        return tuple(sorted(named))
    return tuple(sorted({last_part(name.rpartition(".")[0]) for name in found}))


def _layers(settings: Mapping[str, Any], found: Mapping[str, mx.array]) -> tuple[int, ...] | None:
    numbers = settings.get("layers_to_transform")
    if numbers is None:
        return None
    return (numbers,) if isinstance(numbers, int) else tuple(numbers)


def _refuse_inexpressible(adapter: Adapter) -> None:
    experts = [name for name, array in adapter.arrays.items() if array.ndim > 2]
    if experts:
        raise UserError(
            "PEFT stores adapters of experts differently for each architecture",
            details=experts[:5],
            fix="fuse the adapter: mlx-suite fuse MODEL ADAPTER --out DIR",
        )
    if adapter.tied is None and any(last_part(path) == EMBEDDING for path in adapter.targets):
        raise UserError(
            "The adapter does not say whether its embedding is tied to the head, which PEFT requires",
            fix="give the model it was trained on: --model MODEL",
        )


def _peft_name(name: str) -> str:
    path, _, leaf = name.rpartition(".")
    if leaf == "m":
        return f"{_PREFIX}{path}.lora_magnitude_vector"
    letter = leaf[-1].upper()
    return f"{_PREFIX}{path}." + (
        f"lora_embedding_{letter}" if last_part(path) == EMBEDDING else f"lora_{letter}.weight"
    )


def _targets(adapter: Adapter) -> dict[str, Any]:
    """PEFT's target modules: by name and block where possible, else by full path."""
    found, layers = places(adapter.targets), adapter.config.layers
    if not found.regular or (layers is not None and found.outside):
        return {"target_modules": sorted(adapter.targets), "layers_to_transform": None}
    names = sorted({last_part(path) for path in (*found.inside, *found.outside)})
    return {"target_modules": names, "layers_to_transform": None if layers is None else list(found.blocks)}


def _patterns(adapter: Adapter) -> dict[str, Any]:
    """Rank and alpha of the layers whose rank differs from `config.rank`."""
    config = adapter.config
    others = {path: rank for path, rank in ranks(adapter.arrays).items() if rank != config.rank}
    alphas = {path: config.scale * (sqrt(rank) if config.rslora else rank) for path, rank in others.items()}
    return {
        "rank_pattern": dict(_escaped(others)),
        "alpha_pattern": {path: _plain(alpha) for path, alpha in _escaped(alphas)},
    }


def _escaped(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from ((re.escape(path), value) for path, value in values.items())


def _plain(number: float) -> int | float:
    return int(number) if float(number).is_integer() else number
