"""The tensors of a merged model, each with the tensors it is made of, and the config that describes them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_suite.checkpoints.load import is_ours
from mlx_suite.checkpoints.tensor_rows import StoredWeight
from mlx_suite.modeling.config import FULL, SLIDING, ModelConfig
from mlx_suite.runtime.errors import UserError, shortened
from mlx_suite.transfer.merge.inputs import MergeInput
from mlx_suite.transfer.merge.recipe import METHODS, Recipe, Slice, Source
from mlx_suite.transfer.merge.schedule import LAYER, Place, place_of

Inputs = Mapping[str, MergeInput]
"""Opened models by the name in the recipe."""


@dataclass(frozen=True, kw_only=True)
class MergedTensor:
    """A tensor of the merged model and where its parts are."""

    name: str
    shape: tuple[int, ...]
    place: Place
    slice: Slice
    sources: tuple[tuple[Source, MergeInput, str], ...]
    """Source, model, and the tensor's name in that model."""
    base: tuple[MergeInput, str] | None

    @property
    def reference(self) -> StoredWeight:
        """The stored tensor that gives shape and dtype: the base's, else the first model's."""
        model, name = self.base or self.sources[0][1:]
        return model.weights[name]


def layer_count(model: MergeInput) -> int:
    """Number of layers of a model."""
    return 1 + max((int(match[1]) for name in model.weights if (match := LAYER.search(name))), default=-1)


def plan_tensors(recipe: Recipe, inputs: Inputs) -> list[MergedTensor]:
    """The tensors of the merged model, in order: what precedes the layers, the layers, what follows them.

    Raises UserError that lists layers out of range, tensors that a model lacks, and those of another shape.
    """
    problems = list(_outside(recipe, inputs))
    if problems:
        raise UserError("The slices take layers that do not exist", details=problems, fix="correct these layer ranges")
    tensors: list[MergedTensor] = []
    first = 0
    for number, each in enumerate(recipe.slices):
        reference, (start, stop) = _reference(recipe, inputs, each)
        count = stop - start
        for name in reference.weights:
            match = LAYER.search(name)
            if match is None:
                wanted = number == (0 if "embed" in name else len(recipe.slices) - 1)
                merged = name
            else:
                wanted = start <= int(match[1]) < stop
                merged = _renumbered(name, int(match[1]) - start + first)
            if wanted:
                place = place_of(merged, first, count)
                tensors.append(_tensor(recipe, inputs, each, merged, None if match is None else first, place, problems))
        first += count
    if recipe.slices:
        problems += _unknown(recipe, inputs, tensors)
    if problems:
        raise UserError(
            "The models have different tensors",
            details=shortened(problems),
            fix="merge models that were finetuned from the same base model",
        )
    return sorted(tensors, key=lambda tensor: _order(tensor.name))


def merged_config(recipe: Recipe, inputs: Inputs) -> dict[str, Any]:
    """`config.json` of the merged model: that of the base, else of the first model, with the new number of layers.

    Raises UserError if layers with another attention window than in their old place would be needed.
    """
    reference = _reference(recipe, inputs, recipe.slices[0])[0]
    config = dict(reference.config)
    for key in ("quantization", "quantization_config"):
        config.pop(key, None)
    ranges = [(_reference(recipe, inputs, each)) for each in recipe.slices]
    total = sum(stop - start for _, (start, stop) in ranges)
    if total == layer_count(reference) and len(ranges) == 1:
        return config
    config["num_hidden_layers"] = total
    if not is_ours(config):
        return config
    windows = [window for model, (start, stop) in ranges for window in _windows(model)[start:stop]]
    config.pop("layer_types", None)
    if list(ModelConfig.from_dict(config).windows) != windows:
        config["layer_types"] = [FULL if window is None else SLIDING for window in windows]
    return config


def _windows(model: MergeInput) -> tuple[int | None, ...]:
    return ModelConfig.from_dict(model.config).windows


def _reference(recipe: Recipe, inputs: Inputs, each: Slice) -> tuple[MergeInput, tuple[int, int]]:
    """The model that gives a slice its tensors, and its layers."""
    source = each.sources[0]
    if METHODS[recipe.method].base and recipe.base is not None:
        base = inputs[recipe.base]
        return base, each.base_layers or source.layers or (0, layer_count(base))
    model = inputs[source.model]
    return model, source.layers or (0, layer_count(model))


def _tensor(
    recipe: Recipe,
    inputs: Inputs,
    each: Slice,
    name: str,
    first: int | None,
    place: Place,
    problems: list[str],
) -> MergedTensor:
    """A tensor with its parts. `first` is the number of the slice's first layer; None for a tensor outside layers."""
    reference, (start, _) = _reference(recipe, inputs, each)
    reference_name = name if first is None else _moved(name, start - first)
    shape = reference.weights[reference_name].shape
    sources = []
    for source in each.sources:
        model = inputs[source.model]
        begin = source.layers[0] if source.layers else 0
        own = name if first is None else _moved(name, begin - first)
        weight = model.weights.get(own)
        if weight is None:
            problems.append(f"{model.name} has no {own} {shape}")
        elif weight.shape != shape:
            problems.append(f"{own} is {weight.shape} in {model.name}, {shape} in {reference.name}")
        sources.append((source, model, own))
    base = (reference, reference_name) if METHODS[recipe.method].base else None
    return MergedTensor(name=name, shape=shape, place=place, slice=each, sources=tuple(sources), base=base)


def _outside(recipe: Recipe, inputs: Inputs) -> Iterator[str]:
    ranges = [(source.model, source.layers) for each in recipe.slices for source in each.sources]
    ranges += [(recipe.base, each.base_layers) for each in recipe.slices if recipe.base]
    for name, layers in ranges:
        if layers is None:
            continue
        count = layer_count(inputs[name])
        if not 0 <= layers[0] < layers[1] <= count:
            yield f"{name}: layers {layers[0]} to {layers[1]}, of {count}"


def _unknown(recipe: Recipe, inputs: Inputs, tensors: Sequence[MergedTensor]) -> list[str]:
    """Tensors that a model has and the others lack; not for models that are taken in parts."""
    problems = []
    known = {tensor.name for tensor in tensors}
    for each in recipe.slices:
        for source in each.sources:
            if source.layers is None:
                model = inputs[source.model]
                problems += [
                    f"only {model.name} has {name} {weight.shape}"
                    for name, weight in model.weights.items()
                    if name not in known
                ]
    return problems


def _renumbered(name: str, layer: int) -> str:
    return LAYER.sub(lambda match: match[0].replace(match[1], str(layer)), name, count=1)


def _moved(name: str, by: int) -> str:
    match = LAYER.search(name)
    assert match is not None
    return _renumbered(name, int(match[1]) + by)


def _order(name: str) -> tuple[int, int, str]:
    match = LAYER.search(name)
    if match is not None:
        return 1, int(match[1]), name
    return (0 if "embed" in name else 2), 0, name
