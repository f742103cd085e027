"""Merge models into one, tensor by tensor in blocks of rows, in fp32.

Of each tensor, a block of rows of every model is in memory at a time, BLOCK elements in all, whatever the number of
models and the size of the tensor; see `tensor_parts`.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import mlx.core as mx
import numpy as np

from mlx_suite.checkpoints.config_file import write_config
from mlx_suite.checkpoints.digest import bit_sum, digest_of
from mlx_suite.checkpoints.save import copy_tokenizer, refuse_other_folder
from mlx_suite.checkpoints.weight_writer import SHARD_BYTES, PlannedTensor, WeightWriter, weight_writer
from mlx_suite.checkpoints.weights import DTYPES, FLOATS, dtype_name
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import staged_folder
from mlx_suite.text.settings import TEMPLATE_FILE
from mlx_suite.transfer.merge.card import CARD, MergeFacts, card_text
from mlx_suite.transfer.merge.compatibility import refuse_incompatible, tokenizer_source
from mlx_suite.transfer.merge.inputs import MergeInput, adapter_base, open_input
from mlx_suite.transfer.merge.plan import MergedTensor, merged_config, plan_tensors
from mlx_suite.transfer.merge.recipe import METHODS, Recipe, check_recipe
from mlx_suite.transfer.merge.rules import merge_rule
from mlx_suite.transfer.merge.tensor_parts import TensorParts

BLOCK = 1 << 23
"""Elements in memory of all models together: 32 MiB in fp32, and about five times that with everything computed."""

OnTensor = Callable[[int, int], None]
"""Called with the number of elements merged so far and of all."""


@dataclass(frozen=True, kw_only=True)
class Merged:
    """Result of a merge."""

    folder: Path
    facts: MergeFacts
    tensors: int
    parameters: int
    shards: int
    peak_bytes: int
    """Peak of MLX's memory."""
    largest_bytes: int
    """Size of the largest tensor in fp32."""


@dataclass
class _Digests:
    """Sums of the weights that were read, by model and tensor."""

    sums: dict[str, dict[str, tuple[tuple[int, ...], int]]] = field(default_factory=dict)

    def add(self, model: str, name: str, shape: tuple[int, ...], total: int) -> None:
        self.sums.setdefault(model, {})[name] = (shape, total)

    def of(self, model: str) -> str:
        return digest_of(self.sums.get(model, {}))


def merge_models(
    recipe: Recipe,
    out: Path | str,
    *,
    command: str = "",
    max_shard_bytes: int = SHARD_BYTES,
    block: int = BLOCK,
    on_tensor: OnTensor = lambda done, total: None,
    progress: bool = False,
) -> Merged:
    """Merge the models of a recipe and write the result to `out`, atomically; an existing checkpoint is replaced.

    The folder gets the tokenizer and a card (README.md) that says what it was made of. A tied head stays tied.

    Args:
        command: The command line, for the card.
        max_shard_bytes: Maximum size of a weight file.
        block: Elements in memory of all models together.
        progress: Show a bar on stderr while a model is downloaded.

    Raises UserError for an invalid recipe, for models that cannot be read, differ, or contain NaN or inf, for a result
    that overflows its dtype, for an `out` that is one of the models or contains other files, and for disk errors.
    """
    if recipe.method in METHODS:
        recipe = with_base(recipe)
    check_recipe(recipe)
    out = Path(out)
    refuse_other_folder(out)
    inputs = _open(recipe, progress)
    reference = inputs.get(recipe.base or "") or inputs[recipe.models[0]]
    in_parts = any(source.layers for each in recipe.slices for source in each.sources)
    models = [model for model in inputs.values() if model is not reference]
    _refuse_own_folder(out, inputs.values())
    refuse_incompatible(reference, models, in_parts=in_parts, tokenizer=recipe.tokenizer)
    plan = plan_tensors(recipe, inputs)
    config = merged_config(recipe, inputs)
    source = tokenizer_source([reference, *models], recipe.tokenizer)

    dtypes = {tensor.name: recipe.dtype or _dtype(tensor) for tensor in plan}
    by_name = {dtype_name(dtype): name for name, dtype in FLOATS.items()}
    planned = [PlannedTensor(tensor.name, by_name[dtypes[tensor.name]], tensor.shape) for tensor in plan]
    config["torch_dtype"] = config["dtype"] = _usual(planned, dtypes)
    total, done = sum(math.prod(tensor.shape) for tensor in plan), 0
    digests = _Digests()
    mx.reset_peak_memory()
    with staged_folder(out) as staged:
        write_config(staged, config)
        with weight_writer(staged, planned, max_shard_bytes) as writer:
            for tensor in plan:
                _merge_tensor(recipe, tensor, DTYPES[dtypes[tensor.name]], block, writer, digests)
                mx.clear_cache()
                done += math.prod(tensor.shape)
                on_tensor(done, total)
        _write_tokenizer(source, staged)
        facts = MergeFacts(
            recipe=recipe,
            digests={name: digests.of(name) for name in inputs},
            result=digests.of(""),
            notes={name: tuple(model.notes) for name, model in inputs.items() if model.notes},
            dtype=str(config["dtype"]),
            tokenizer=source.name,
            command=command,
        )
        (staged / CARD).write_text(card_text(facts, out.name), encoding="utf-8")
        shards = len(list(staged.glob("*.safetensors")))
    return Merged(
        folder=out,
        facts=facts,
        tensors=len(plan),
        parameters=total,
        shards=shards,
        peak_bytes=mx.get_peak_memory(),
        largest_bytes=4 * max(math.prod(tensor.shape) for tensor in plan),
    )


def with_base(recipe: Recipe) -> Recipe:
    """A recipe of a method with a base gets the base that its adapters agree on, if it names none."""
    if recipe.base is not None or not METHODS[recipe.method].base:
        return recipe
    bases = {base for name in recipe.models if (base := adapter_base(name)) is not None}
    return replace(recipe, base=bases.pop()) if len(bases) == 1 else recipe


def _open(recipe: Recipe, progress: bool) -> dict[str, MergeInput]:
    """Open every model by its name, the base last. A base that only adapters need is not among them."""
    inputs = {name: open_input(name, recipe.base, progress=progress) for name in recipe.models}
    if recipe.base is None or recipe.base in inputs:
        return inputs
    if METHODS[recipe.method].base:
        inputs[recipe.base] = open_input(recipe.base, progress=progress)
    elif all(model.adapter is None for model in inputs.values()):
        raise UserError(
            f"{recipe.method} merges the models themselves, not their differences from a base",
            where=f"--base {recipe.base}",
            fix="omit --base, or give the base as one of the models",
        )
    return inputs


def _refuse_own_folder(out: Path, inputs: Iterable[MergeInput]) -> None:
    for model in inputs:
        if out.resolve() in (model.folder.resolve(), (model.adapter_folder or model.folder).resolve()):
            raise UserError(f"The output folder is the model {model.name}", where=str(out), fix="choose a new folder")


def _dtype(tensor: MergedTensor) -> str:
    """The dtype of a tensor in the base, else in the first model; of a quantized one, that of its scales."""
    weight = tensor.reference
    stored = weight.header if weight.quantization is None else weight.scales
    if stored is None or stored.dtype not in FLOATS:
        return "bfloat16"
    return dtype_name(FLOATS[stored.dtype])


def _usual(planned: Sequence[PlannedTensor], dtypes: dict[str, str]) -> str:
    """The most common dtype by elements."""
    sizes: dict[str, int] = {}
    for tensor in planned:
        sizes[dtypes[tensor.name]] = sizes.get(dtypes[tensor.name], 0) + math.prod(tensor.shape)
    return max(sizes, key=lambda name: sizes[name])


def _write_tokenizer(source: MergeInput, folder: Path) -> None:
    if any((source.folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        copy_tokenizer(source.folder, folder)
        if source.adapter_folder is not None and (template := source.chat_template()) is not None:
            (folder / TEMPLATE_FILE).write_text(template, encoding="utf-8")


def _merge_tensor(
    recipe: Recipe, tensor: MergedTensor, dtype: mx.Dtype, block: int, writer: WeightWriter, digests: _Digests
) -> None:
    parts = TensorParts(tensor, block)
    combine = merge_rule(recipe, tensor, parts)
    columns = tensor.reference.columns
    names = [(source.model, name) for source, _, name in tensor.sources]
    names += [(recipe.base or "", tensor.base[1])] if tensor.base else []
    totals = [0] * (len(names) + 1)
    for start, stop in parts.spans:
        arrays = parts.read(start, stop)
        merged = combine(start, stop)
        stored = merged.astype(dtype)
        sums = mx.stack([bit_sum(array.reshape(-1), start * columns) for array in (*arrays, stored)])
        finite = mx.isfinite(stored).all()
        mx.eval(stored, sums, finite)
        if not finite.item():
            raise UserError(
                f"The merged {tensor.name} overflows {dtype_name(dtype)}",
                where=recipe.method,
                fix="choose --dtype bfloat16 or float32, or smaller weights",
            )
        totals = [total + more for total, more in zip(totals, cast(list[int], sums.tolist()), strict=True)]
        writer.write(tensor.name, np.array(stored.view(mx.uint16) if dtype == mx.bfloat16 else stored))
    for (model, name), total in zip(names, totals, strict=False):
        digests.add(model, name, tensor.shape, total)
    digests.add("", tensor.name, tensor.shape, totals[-1])
