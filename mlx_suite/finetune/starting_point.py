"""Starting point of a run (`start_from`): an adapter, or a fully finetuned model, that is trained further on new data.

What decides the shape of the trained weights comes with it: method, rank, alpha, modules, blocks, trained rows. The
optimizer and the schedule start afresh, so continuing a run on the same data differs from a longer run.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import mlx.core as mx
import mlx.nn as nn
import yaml

from mlx_suite.adapters.attach import Adapter, AdapterConfig, apply_adapter, is_tied, load_adapter
from mlx_suite.adapters.lora import adapted_layers, base_layer
from mlx_suite.checkpoints.config_file import read_config
from mlx_suite.checkpoints.trained_run import ADAPTER, MODEL, NAMES, adapter_folder, model_folder
from mlx_suite.finetune.settings import CHOICES, FinetuneSettings
from mlx_suite.modeling.dora import dtype_of
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import sha256_of
from mlx_suite.runtime.settings_file import NAME as SETTINGS

FLAGS = {"start_from": "--from", "train_new_tokens": "--train-new-tokens"}
RECORD = "started_from.json"
"""File in a run folder that says from what the run started."""
SHAPE_KEYS = (
    *("model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", "vocab_size", "tie_word_embeddings"),
)
"""Keys of config.json in which a model and one trained from it are equal."""


@dataclass(frozen=True, kw_only=True)
class StartingPoint:
    """An adapter or a full model to train further."""

    name: str
    """As named by the user."""
    folder: Path
    """Folder with the files of the adapter or the model."""
    adapter: Adapter | None
    """None for a fully finetuned model."""
    recorded: Mapping[str, Any]
    """`style` and `quantize_base` of the run that trained it; empty if they are not recorded."""

    @cached_property
    def digest(self) -> str:
        """12 hexadecimal digits of the SHA-256 of its weights and of their settings."""
        files = [*sorted(self.folder.glob("*.safetensors")), *([] if self.adapter is None else [self.folder / ADAPTER])]
        return sha256("\n".join(map(sha256_of, files)).encode()).hexdigest()[:12]

    @property
    def fixed(self) -> dict[str, Any]:
        """Settings of a run that come from here."""
        if self.adapter is None:
            return {"method": "full", **self.recorded}
        config = self.adapter.config
        names = ("method", "rank", "alpha", "rslora", "modules", "layers")
        return {**{name: getattr(config, name) for name in names}, **self.recorded}

    @property
    def row_ids(self) -> tuple[int, ...] | None:
        """Tokens whose rows of the embedding the adapter trains; None for a full model."""
        if self.adapter is None:
            return None
        return tuple(sorted({index for rows in self.adapter.rows.values() for index in rows.ids}))

    @property
    def template_from(self) -> Path | None:
        """Folder whose chat template, if it has one, replaces the model's: the adapter was trained with it."""
        return None if self.adapter is None else self.folder

    def facts(self) -> dict[str, Any]:
        """JSON object for the run's records."""
        kind = "model" if self.adapter is None else "adapter"
        return {"run": self.name, kind: self.folder.name, "digest": self.digest}


def starting_point(name: str) -> StartingPoint:
    """Read what `start_from` names: the folder of a run (its best result, else its last), or one of an adapter in
    mlx-lm's or PEFT's layout, or of a fully finetuned model.

    Raises UserError for a folder with neither, and for adapters that cannot be read.
    """
    given = Path(name).expanduser()
    if not given.is_dir():
        raise UserError("There is no such folder", where=f"--from {name}", fix="give the folder of a run or an adapter")
    places = [given, *(given / result for result in NAMES)]
    place = next((each for each in places if (each / ADAPTER).is_file() or (each / MODEL).is_file()), given)
    adapter = None
    if (place / MODEL).is_file():
        folder = model_folder(given)
    else:
        folder, adapter = adapter_folder(given), load_adapter(given)
    return StartingPoint(name=name, folder=folder, adapter=adapter, recorded=_recorded(given))


Settings = TypeVar("Settings", bound=FinetuneSettings)


def inherited(settings: Settings, start: StartingPoint, given: Collection[str]) -> Settings:
    """The settings, with those that come from the starting point.

    Args:
        given: Settings that the user chose. Raises UserError that lists those of them that conflict.
    """
    fixed = start.fixed
    conflicts = {
        name: f"{name} is {_shown(getattr(settings, name))}, but {start.name} has {_shown(value)}"
        for name, value in fixed.items()
        if name in given and _plain(getattr(settings, name)) != _plain(value)
    }
    rows = start.row_ids
    if rows is not None and settings.train_new_tokens is not None and settings.train_new_tokens != bool(rows):
        trains = "trains" if rows else "does not train"
        conflicts["train_new_tokens"] = (
            f"train_new_tokens is {_shown(settings.train_new_tokens)}, but {start.name} {trains} rows of the embedding"
        )
    if conflicts:
        flags = ", ".join(FLAGS.get(name, f"--{name.replace('_', '-')}") for name in conflicts)
        raise UserError(
            "The settings conflict with those of the run to start from",
            where=f"--from {start.name}",
            fix=f"omit {flags}; to train another adapter, fuse this one into the model first: mlx-suite fuse",
            details=list(conflicts.values()),
        )
    return replace(settings, **fixed)


def check_model(folder: Path, start: StartingPoint) -> None:
    """Raise UserError if a fully finetuned model has other dimensions than the model in `folder`."""
    own, other = read_config(start.folder), read_config(folder)
    details = [
        f"{key}: {own[key]} in {start.name}, {other[key]} in the model"
        for key in SHAPE_KEYS
        if key in own and key in other and own[key] != other[key]
    ]
    if details:
        raise UserError(
            "The run to start from was trained on another model",
            where=f"--from {start.name}",
            fix="name the model that it was trained on",
            details=details,
        )


def check_folder(out: Path, start: StartingPoint) -> None:
    """Raise UserError if the run would overwrite what it starts from."""
    started = start.folder.resolve()
    if out.resolve() in (started, started.parent if started.name in NAMES else started):
        raise UserError(
            "The run would overwrite what it starts from", where=f"--out {out}", fix="choose another folder with --out"
        )


def attach_adapter(model: nn.Module, start: StartingPoint, dropout: float) -> AdapterConfig:
    """Attach the starting point's adapter and unfreeze it, and nothing else; returns its settings.

    Its matrices take the precision of the model's weights, as those of a new adapter do. Raises UserError if it does
    not fit the model.
    """
    assert start.adapter is not None, "a full model has no adapter"
    adapter = start.adapter.on(is_tied(model))
    adapter = replace(adapter, config=replace(adapter.config, dropout=dropout))
    apply_adapter(model, adapter, f"--from {start.name}")
    for layer in adapted_layers(model).values():
        precision = dtype_of(base_layer(layer))
        layer.lora_a, layer.lora_b = layer.lora_a.astype(precision), layer.lora_b.astype(precision)
        if "m" in layer:
            layer.m = layer.m.astype(mx.float32)
    return adapter.config


def record_text(start: StartingPoint) -> str:
    """Content of `started_from.json`."""
    return json.dumps(start.facts(), indent=1, ensure_ascii=False) + "\n"


def _recorded(folder: Path) -> dict[str, Any]:
    """`style` and `quantize_base` in the settings of the run that `folder` holds, or of which it is a result."""
    whole = folder.resolve()
    for place in (whole, *([whole.parent] if whole.name in NAMES else [])):
        try:
            values = yaml.safe_load((place / SETTINGS).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            continue
        if isinstance(values, dict):
            found = {"style": values.get("style"), "quantize_base": values.get("quantize_base")}
            valid = {"style": CHOICES["style"], "quantize_base": (0, 4, 8)}
            return {name: value for name, value in found.items() if value in valid[name]}
    return {}


def _plain(value: Any) -> Any:
    """A value to compare; the order of names and numbers does not matter."""
    return sorted(value) if isinstance(value, list | tuple) else value


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else "all" if value is None else str(value)
