"""From a recipe to the function that merges the rows of a tensor."""

from collections.abc import Callable

import mlx.core as mx

from mlx_suite.runtime.errors import UserError
from mlx_suite.transfer.merge import combinations, elections
from mlx_suite.transfer.merge.plan import MergedTensor
from mlx_suite.transfer.merge.recipe import Recipe
from mlx_suite.transfer.merge.tensor_parts import TensorParts


def merge_rule(recipe: Recipe, tensor: MergedTensor, parts: TensorParts) -> Callable[[int, int], mx.array]:
    """A function that merges rows `start` to `stop` of a tensor."""
    sources = [source for source, _, _ in tensor.sources]

    def value(name: str) -> float:
        return recipe.value(name, tensor.slice, None, tensor.place)

    def values(name: str) -> list[float]:
        return [recipe.value(name, tensor.slice, source, tensor.place) for source in sources]

    if recipe.method in ("ties", "dare"):
        return _election(recipe, tensor, parts, values("weight"), values("density"), value("lambda"))
    coefficients = _coefficients(recipe, parts, value, values)

    def combine(start: int, stop: int) -> mx.array:
        *_, base = parts.read(start, stop)
        merged = base if tensor.base else mx.zeros_like(base)
        for coefficient, vector in zip(coefficients.tolist(), parts.vectors(start, stop), strict=True):
            if coefficient:
                merged = merged + coefficient * vector
        return merged

    return combine


def _coefficients(
    recipe: Recipe, parts: TensorParts, value: Callable[[str], float], values: Callable[[str], list[float]]
) -> combinations.Vector:
    """Coefficients of the models' vectors for one tensor."""
    match recipe.method:
        case "linear":
            return combinations.linear(_usable(values("weight"), recipe, parts), recipe.normalizes)
        case "task":
            weights = values("weight")
            shares = combinations.linear(_usable(weights, recipe, parts), recipe.normalizes)
            return combinations.task(shares.tolist(), value("lambda"))
        case "ema":
            return combinations.ema(len(parts.tensor.sources), value("mu"))
        case "liti":
            return combinations.liti(value("eta"))
        case "passthrough":
            return combinations.linear([1.0])
        case "slerp":
            return combinations.slerp(parts.gram(), value("t"))
        case "model-stock":
            return combinations.model_stock(parts.gram())
        case "karcher":
            return combinations.karcher(parts.gram(), _usable(values("weight"), recipe, parts))
        case "warp":
            return combinations.warp(parts.gram(), value("eta"), value("t"))
    raise AssertionError(f"{recipe.method} is no combination")


def _usable(weights: list[float], recipe: Recipe, parts: TensorParts) -> list[float]:
    """The weights, unless they should be divided by their sum and it is 0."""
    if (recipe.normalizes or recipe.method == "karcher") and abs(sum(weights)) < 1e-12:
        raise UserError(
            f"The weights of the models add up to 0 for {parts.tensor.name}",
            where="--weights",
            fix="give weights with another sum",
        )
    return weights


def _election(
    recipe: Recipe, tensor: MergedTensor, parts: TensorParts, weights: list[float], densities: list[float], scale: float
) -> Callable[[int, int], mx.array]:
    """Merge rows of a tensor with TIES or DARE."""
    thresholds: list[float] = []
    if recipe.method == "ties":
        thresholds = parts.thresholds(densities)

    def combine(start: int, stop: int) -> mx.array:
        deltas = parts.vectors(start, stop)
        base = parts.read(start, stop)[-1]
        if recipe.method == "ties":
            deltas = [elections.trim(delta, least) for delta, least in zip(deltas, thresholds, strict=True)]
        else:
            first = start * tensor.reference.columns
            keys = (f"{recipe.seed} {tensor.name} {number}" for number in range(len(deltas)))
            deltas = [
                elections.drop(delta, density, key, first)
                for delta, density, key in zip(deltas, densities, keys, strict=True)
            ]
        if recipe.method == "ties" or recipe.election:
            return base + scale * elections.elect(deltas, weights, recipe.normalizes)
        shares = combinations.linear(_usable(weights, recipe, parts), recipe.normalizes).tolist()
        merged = base
        for share, delta in zip(shares, deltas, strict=True):
            merged = merged + scale * share * delta
        return merged

    return combine
