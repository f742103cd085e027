"""The models of a merge, read in blocks of rows: checkpoints, and adapters as low-rank changes of their base.

    LoRA, linear     W + scale · (AB)ᵀ            LoRA, embedding     E + scale · AB
    DoRA             m · (W + scale · (AB)ᵀ) / ‖W + scale · (AB)ᵀ‖
    trained rows     E with these rows replaced

A block of rows of the sum needs only these rows of W and of Bᵀ (of A, for an embedding), so an adapter is never fused
as a whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.adapters.attach import Adapter, fitted, load_adapter, stored_template
from mlx_suite.checkpoints.config_file import read_config
from mlx_suite.checkpoints.load import load_model
from mlx_suite.checkpoints.tensor_rows import StoredWeight, stored_weights
from mlx_suite.checkpoints.trained_run import ADAPTER, adapter_folder
from mlx_suite.hub.resolve import resolve
from mlx_suite.modeling.dora import SMALLEST
from mlx_suite.runtime.errors import UserError
from mlx_suite.text.template import load_chat_template


@dataclass(frozen=True, kw_only=True)
class MergeInput:
    """A model of a merge."""

    name: str
    """As the user named it."""
    folder: Path
    """Folder of the checkpoint; of an adapter, that of its base."""
    config: Mapping[str, Any]
    weights: Mapping[str, StoredWeight]
    adapter: Adapter | None = None
    adapter_folder: Path | None = None
    embeddings: frozenset[str] = frozenset()
    """Paths of the adapted layers that are embeddings."""

    @property
    def notes(self) -> list[str]:
        """What happens to this model's weights before they are merged."""
        packed = sum(weight.quantization is not None for weight in self.weights.values())
        notes = [f"{packed} quantized layers are dequantized"] if packed else []
        if self.adapter is not None:
            notes.append(f"{self.adapter.config.method} adapter on {self.adapter.base or self.folder.name}")
        return notes

    def rows(self, name: str, start: int, stop: int) -> mx.array:
        """Rows of the weight called `name`, (stop − start, columns), in fp32."""
        rows = self.weights[name].rows(start, stop)
        path, _, kind = name.rpartition(".")
        if self.adapter is None or kind != "weight":
            return rows
        if path in self.adapter.rows:
            return _with_trained_rows(rows, self.adapter, path, start, stop)
        if f"{path}.lora_a" in self.adapter.arrays:
            return _adapted(rows, self.adapter, path, start, stop, path in self.embeddings)
        return rows

    def chat_template(self) -> str | None:
        """Source of the chat template: the adapter's, else the checkpoint's; None if there is none."""
        own = None if self.adapter_folder is None else stored_template(self.adapter_folder)
        if own is not None:
            return own
        try:
            return load_chat_template(self.folder).source
        except UserError:
            return None


def open_input(name: str, base: str | None = None, *, progress: bool = False) -> MergeInput:
    """Open a model by name, or an adapter by its folder or the folder of its run.

    Args:
        base: Base model of an adapter. None: the one that the adapter's files name.

    Raises UserError for a model or adapter that cannot be found or read, or an adapter that does not fit its base.
    """
    found = _adapter_in(Path(name).expanduser())
    if found is None:
        folder = resolve(name, progress=progress)
        config = read_config(folder)
        return MergeInput(name=name, folder=folder, config=config, weights=stored_weights(folder, config))
    adapter = load_adapter(found)
    base = base or adapter.base
    if not base:
        raise UserError("The adapter does not name its base model", where=name, fix="give it with --base")
    try:
        checkpoint = open_input(base, progress=progress)
    except UserError as error:
        raise UserError(
            f"The adapter's base model cannot be used: {error.what}", where=f"{name}: base {base}", fix="give --base"
        ) from error
    model = load_model(checkpoint.folder, lazy=True)
    adapter = fitted(model, adapter, where=name)
    return replace(
        checkpoint,
        name=name,
        adapter=replace(adapter, base=base),
        adapter_folder=found,
        embeddings=_embeddings(model, adapter, name),
    )


def adapter_base(name: str) -> str | None:
    """The base model that an adapter's files name; None for a model."""
    found = _adapter_in(Path(name).expanduser())
    return None if found is None else load_adapter(found).base or None


def _adapter_in(folder: Path) -> Path | None:
    """The adapter's folder, if `folder` is one or the run of one."""
    if not folder.is_dir() or (folder / "config.json").is_file():
        return None
    if (folder / ADAPTER).is_file() or any((folder / result / ADAPTER).is_file() for result in ("best", "last")):
        return adapter_folder(folder)
    return None


def _embeddings(model: nn.Module, adapter: Adapter, name: str) -> frozenset[str]:
    """Adapted layers that are embeddings. Raises UserError for adapted experts."""
    modules: dict[str, nn.Module] = dict(model.named_modules())  # type: ignore[no-untyped-call]
    experts = [path for path in adapter.targets if adapter.arrays[f"{path}.lora_a"].ndim > 2]
    if experts:
        raise UserError(
            "Adapters of experts are merged only after fusing them",
            details=experts[:5],
            where=name,
            fix="mlx-suite fuse MODEL ADAPTER --out DIR, then merge DIR",
        )
    return frozenset(
        path for path in adapter.targets if isinstance(modules[path], nn.Embedding | nn.QuantizedEmbedding)
    )


def _adapted(rows: mx.array, adapter: Adapter, path: str, start: int, stop: int, embedding: bool) -> mx.array:
    """A block of rows of a weight with its low-rank change."""
    a, b = (adapter.arrays[f"{path}.{leaf}"].astype(mx.float32) for leaf in ("lora_a", "lora_b"))
    product = a[start:stop] @ b if embedding else b[:, start:stop].T @ a.T
    changed = rows + adapter.config.scale * product
    if adapter.config.method != "dora":
        return changed
    norms = mx.sqrt(mx.maximum(changed.square().sum(axis=1, keepdims=True), SMALLEST))
    return adapter.arrays[f"{path}.m"].astype(mx.float32)[start:stop, None] / norms * changed


def _with_trained_rows(rows: mx.array, adapter: Adapter, path: str, start: int, stop: int) -> mx.array:
    """A block of rows of an embedding or head, with the adapter's rows in place of the checkpoint's."""
    trained = adapter.rows[path]
    places = [place for place, token in enumerate(trained.ids) if start <= token < stop]
    if places:
        at = mx.array([trained.ids[place] - start for place in places])
        rows[at] = trained.values[mx.array(places)].astype(mx.float32)
    return rows
