"""Save and load adapters in mlx-lm's or PEFT's layout, and attach them to a model."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.adapters.config import LEAVES, Adapter, AdapterConfig, check_config, last_part, ranks
from mlx_suite.adapters.lora import adapted_layers, attach, can_be_adapted, layer_shapes, leaves
from mlx_suite.adapters.mlx_layout import CONFIG, read_mlx, write_mlx
from mlx_suite.adapters.mlx_layout import WEIGHTS as MLX_WEIGHTS
from mlx_suite.adapters.peft_layout import WEIGHTS as PEFT_WEIGHTS
from mlx_suite.adapters.peft_layout import read_peft, write_peft
from mlx_suite.adapters.tied import EMBEDDING, with_own_head
from mlx_suite.adapters.token_rows import attach_rows, misfits, rows_of
from mlx_suite.checkpoints.safetensors_header import read_header
from mlx_suite.checkpoints.trained_run import adapter_folder
from mlx_suite.checkpoints.weights import load_file, refuse_not_finite
from mlx_suite.runtime.errors import UserError, shortened
from mlx_suite.runtime.files import staged_folder
from mlx_suite.runtime.json_file import read_object
from mlx_suite.text.settings import TEMPLATE_FILE

__all__ = [
    "LAYOUTS",
    "Adapter",
    "AdapterConfig",
    "adapter_of",
    "apply_adapter",
    "fitted",
    "load_adapter",
    "save_adapter",
    "share_weights",
    "stored_template",
    "write_adapter",
]

LAYOUTS = ("mlx", "peft")

_FILES = (MLX_WEIGHTS, PEFT_WEIGHTS, CONFIG, TEMPLATE_FILE, "README.md")
"""Files of an adapter's folder; a folder with any other file is not overwritten."""

_OTHER_FILES = {
    "adapter_model.bin": "a PyTorch pickle, which can run code when it is read; PEFT saves safetensors by itself",
    "adapters.npz": "mlx-lm's layout before 2024",
}


def save_adapter(
    folder: Path | str, model: nn.Module, config: AdapterConfig, base: str, chat_template: str | None = None
) -> None:
    """Write the adapters of `model` in mlx-lm's layout, atomically.

    Args:
        config: The settings passed to `add_adapters`.
        base: The base model, as named by the user.
        chat_template: The Jinja source used in training, saved with the adapter.

    Raises UserError if the folder has files that are not an adapter's, and for a full or read-only disk.
    """
    blocks = len(getattr(model, "layers", ()))
    write_adapter(folder, adapter_of(model, config, base), "mlx", blocks, chat_template)


def adapter_of(model: nn.Module, config: AdapterConfig, base: str = "") -> Adapter:
    """The adapters of a model as an `Adapter`."""
    arrays = {f"{path}.{leaf}": layer[leaf] for path, layer in adapted_layers(model).items() for leaf in leaves(layer)}
    assert arrays, "the model has no adapters"
    return Adapter(config=config, arrays=arrays, base=base, tied=is_tied(model), rows=rows_of(model))


def write_adapter(
    folder: Path | str, adapter: Adapter, layout: str, blocks: int | None = None, chat_template: str | None = None
) -> None:
    """Write an adapter to `folder`, atomically.

    Args:
        layout: mlx or peft.
        blocks: The model's number of blocks; mlx-lm's layout counts from the last. None: layers are written with their
            full paths.
        chat_template: The Jinja source used in training, saved with the adapter.

    Raises UserError for an adapter that the layout cannot express, for a folder with files that are not an adapter's,
    and for a full or read-only disk.
    """
    assert layout in LAYOUTS
    _refuse_other_folder(Path(folder))
    with staged_folder(folder) as staged:
        if layout == "peft":
            write_peft(staged, adapter)
        else:
            write_mlx(staged, adapter, blocks)
        if chat_template is not None:
            (staged / TEMPLATE_FILE).write_text(chat_template, encoding="utf-8")


def stored_template(folder: Path | str) -> str | None:
    """The chat template that the adapter in `folder` was trained with, or None."""
    file = adapter_folder(Path(folder).expanduser()) / TEMPLATE_FILE
    return file.read_text(encoding="utf-8") if file.is_file() else None


def _refuse_other_folder(folder: Path) -> None:
    strange = sorted(path.name for path in folder.iterdir() if path.name not in _FILES) if folder.is_dir() else []
    if strange:
        raise UserError(
            "The folder contains files that are not part of an adapter and would be lost: "
            + ", ".join(strange[:5] + ["…"] * (len(strange) > 5)),
            where=str(folder),
            fix="choose a new folder",
        )


def load_adapter(folder: Path | str) -> Adapter:
    """Read an adapter written by mlx-suite, mlx-lm or PEFT, which is detected by the file names.

    `folder` may also be the folder of a run, whose best adapter is read, or else its last.

    Raises UserError for a folder without an adapter, for truncated files, and for unsupported kinds of adapter.
    """
    folder = adapter_folder(Path(folder).expanduser())
    files = [folder / name for name in (MLX_WEIGHTS, PEFT_WEIGHTS) if (folder / name).is_file()]
    if not files:
        others = [f"{name} is {what}" for name, what in _OTHER_FILES.items() if (folder / name).is_file()]
        raise UserError(
            f"The folder contains no adapter: neither {MLX_WEIGHTS} (mlx-lm) nor {PEFT_WEIGHTS} (PEFT)",
            details=others,
            where=str(folder),
            fix="give an adapter folder written by finetune, mlx-lm or PEFT",
        )
    settings = _read_config(folder / CONFIG)
    of_peft = "peft_type" in settings if len(files) == 2 else files[0].name == PEFT_WEIGHTS
    file = folder / (PEFT_WEIGHTS if of_peft else MLX_WEIGHTS)
    read_header(file)  # for a clearer error if the file is truncated
    arrays = dict(load_file(file))
    adapter = read_peft(folder, settings, arrays) if of_peft else read_mlx(folder, settings, arrays)
    check_config(adapter.config)
    # A run may overwrite the file later.
    rows = {f"{path} (rows of tokens)": rows.values for path, rows in adapter.rows.items()}
    mx.eval(list(adapter.arrays.values()), list(rows.values()))
    refuse_not_finite({**adapter.arrays, **rows}, file)
    return adapter


def apply_adapter(model: nn.Module, adapter: Adapter, where: str = "") -> None:
    """Attach an adapter to a loaded model and freeze everything else.

    Each layer's rank is that of its arrays. `where` is the user's name for the adapter.

    Raises UserError that lists every layer missing from the model, every array that is missing, unexpected or of the
    wrong shape, and an embedding adapted without the tied head. The model is then unchanged.
    """
    adapter = fitted(model, adapter, where)
    attach(model, ranks(adapter.arrays), adapter.config)
    for path, layer in adapted_layers(model).items():
        for leaf in leaves(layer):
            layer[leaf] = adapter.arrays[f"{path}.{leaf}"]
    attach_rows(model, {path: (rows.ids, rows.values) for path, rows in adapter.rows.items()})


def fitted(model: nn.Module, adapter: Adapter, where: str = "") -> Adapter:
    """The adapter as it applies to a model: a tied head becomes a layer of its own if the model's is not tied.

    Raises UserError as `apply_adapter` does. Changes nothing.
    """
    if adapter.tied and is_tied(model) is False:
        adapter = with_own_head(adapter)
    problems = _misfits(model, adapter)
    if problems:
        raise UserError(
            "The adapter does not fit this model",
            details=shortened(problems),
            where=where,
            fix=f"use the model it was trained on: {adapter.base}"
            if adapter.base
            else "use the model it was trained on",
        )
    return adapter


def is_tied(model: nn.Module) -> bool | None:
    """Whether the model's head is tied to its embedding; None if its config does not say."""
    settings = getattr(model, "config", None) or getattr(model, "args", None)
    return getattr(settings, "tie_word_embeddings", None)


def _misfits(model: nn.Module, adapter: Adapter) -> list[str]:
    modules = dict(model.named_modules())
    found = ranks(adapter.arrays)
    wanted = LEAVES if adapter.config.method == "dora" else LEAVES[:2]
    problems = []
    for path in adapter.targets:
        module = modules.get(path)
        if module is None or not can_be_adapted(module):
            problems.append(f"{path} is not a layer of this model that can be adapted")
            continue
        shapes = layer_shapes(module, found.get(path, adapter.config.rank))
        for leaf in wanted:
            array = adapter.arrays.get(f"{path}.{leaf}")
            if array is None:
                problems.append(f"{path}.{leaf} {shapes[leaf]} is missing")
            elif array.shape != shapes[leaf]:
                problems.append(f"{path}.{leaf} is {array.shape}, not {shapes[leaf]}")
    problems += [
        f"{name} {array.shape} is not part of a {adapter.config.method} adapter"
        for name, array in adapter.arrays.items()
        if name.rpartition(".")[2] not in wanted
    ]
    if adapter.tied is False and is_tied(model):
        problems += [
            f"{path} is adapted without the head, which is the same matrix in this model"
            for path in adapter.targets
            if last_part(path) == EMBEDDING
        ]
    problems += misfits(modules, adapter.rows)
    problems += [f"{path} has an adapter and trained rows" for path in adapter.rows if path in adapter.targets]
    return problems + _changed_copies(modules, adapter.copies)


def _changed_copies(modules: Mapping[str, nn.Module], copies: Mapping[str, mx.array]) -> list[str]:
    """One line for each base weight stored with the adapter that differs from this model's."""
    problems = []
    for name, array in copies.items():
        module = modules.get(name.rpartition(".")[0])
        weight = None if module is None else module.get("weight")
        if weight is None or not mx.issubdtype(weight.dtype, mx.floating):
            continue  # a tied head or a quantized layer: nothing to compare with
        if array.shape != weight.shape:
            problems.append(f"{name} stored with the adapter is {array.shape}, the model's {weight.shape}")
        elif not mx.allclose(array.astype(mx.float32), weight.astype(mx.float32), rtol=1e-2, atol=1e-6).item():
            problems.append(f"{name} stored with the adapter differs from the model's")
    return problems


def _read_config(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise UserError("The adapter has no adapter_config.json", where=str(path), fix="use the complete folder")
    return read_object(path)


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
