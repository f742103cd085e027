"""Recipes in mergekit's YAML: its common subset, as its documentation describes it.

    merge_method     linear, slerp, task_arithmetic, ties, dare_linear, dare_ties, model_stock, karcher, passthrough;
                     also ema, liti and warp, which mergekit does not have
    base_model       for the methods with a base, and the model at t = 0 for slerp
    models           a list of {model, parameters}
    slices           instead of models: a list of {sources: a list of {model, layer_range, parameters}, parameters}
    parameters       weight, density, lambda, t, …: a number, a list (gradient), or a list of {filter, value}; normalize
    dtype, out_dtype of the merged weights; sums are always in fp32
    tokenizer_source base, or model:NAME

Anything else is refused by name. Where mergekit's defaults differ from ours, a recipe gets mergekit's: density 1, and
`dare_ties` without `normalize`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from mlx_suite.runtime.errors import UserError, nearest_name, shortened
from mlx_suite.transfer.merge.recipe import METHODS, Recipe, Slice, Source, check_recipe
from mlx_suite.transfer.merge.schedule import Parameters, Schedule, constant, from_yaml

SUFFIXES = (".yaml", ".yml")

_NAMES = {
    "linear": "linear",
    "slerp": "slerp",
    "task_arithmetic": "task",
    "ties": "ties",
    "dare_linear": "dare",
    "dare_ties": "dare",
    "model_stock": "model-stock",
    "karcher": "karcher",
    "passthrough": "passthrough",
    "ema": "ema",
    "liti": "liti",
    "warp": "warp",
}
"""Our methods by the name in a recipe."""
_KEYS = ("merge_method", "base_model", "models", "slices", "parameters", "dtype", "out_dtype", "tokenizer_source")
_SCHEDULES = ("weight", "density", "lambda", "t", "eta", "mu")
_WITHOUT_EFFECT: Mapping[str, tuple[Any, ...]] = {
    "int8_mask": (True, False, 0, 1),
    "rescale": (True, 1),
    "filter_wise": (False, 0),
}
"""Parameters that are read if they have one of these values, which is what we do anyway."""


class _Reading:
    """Problems found while a recipe is read."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.normalize: bool | None = None
        self.seed = 0

    def mapping(self, value: Any, where: str, known: tuple[str, ...]) -> dict[str, Any]:
        """A mapping with known keys only."""
        if not isinstance(value, dict):
            self.problems.append(f"{where} is {value!r}: expected a mapping with {', '.join(known)}")
            return {}
        for key in value:
            if key not in known:
                self.problems.append(f"{where}{key} is not supported: {nearest_name(str(key), known)}")
        return {str(key): each for key, each in value.items() if key in known}

    def entries(self, value: Any, where: str) -> list[Any]:
        """A list that is not empty."""
        if isinstance(value, list) and value:
            return value
        self.problems.append(f"{where} is {value!r}: expected a list")
        return []

    def parameters(self, value: Any, where: str, shared: bool = False) -> dict[str, Schedule]:
        """The schedules in a `parameters` mapping; of the shared one also what is true or false."""
        if value is None:
            return {}
        known = (*_SCHEDULES, *(("normalize", "seed") if shared else ()), *_WITHOUT_EFFECT)
        found = {}
        for name, each in self.mapping(value, f"{where}parameters.", known).items():
            if name == "normalize" and shared and isinstance(each, bool | int):
                self.normalize = bool(each)
            elif name == "seed" and shared and isinstance(each, int):
                self.seed = each
            elif name in _WITHOUT_EFFECT:
                if each not in _WITHOUT_EFFECT[name]:
                    self.problems.append(f"{where}parameters.{name} is {each!r}: not supported")
            else:
                try:
                    found[name] = from_yaml(each)
                except ValueError as error:
                    self.problems.append(f"{where}parameters.{name} is {each!r}: {error}")
        return found

    def text(self, value: Any, where: str) -> str:
        if isinstance(value, str) and value:
            return value
        self.problems.append(f"{where} is {value!r}: expected a name")
        return ""


def read_recipe(path: Path) -> Recipe:
    """Read a recipe. Raises UserError that lists every problem."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError("The recipe cannot be read", where=str(path), fix="check the path") from error
    except UnicodeDecodeError as error:
        raise UserError("The recipe is not UTF-8 text", where=str(path), fix="save it as UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UserError("The recipe is not YAML", where=where, fix="correct this line") from error
    reading = _Reading()
    recipe = _recipe(reading, values)
    if reading.problems or recipe is None:
        raise UserError(
            "The recipe cannot be used",
            details=shortened(reading.problems),
            where=str(path),
            fix="correct these entries",
        )
    check_recipe(recipe, str(path))
    return recipe


def name_of(recipe: Recipe) -> str:
    """The method's name in a recipe file."""
    if recipe.method == "dare":
        return "dare_ties" if recipe.election else "dare_linear"
    return next(name for name, ours in _NAMES.items() if ours == recipe.method)


def _recipe(reading: _Reading, values: Any) -> Recipe | None:
    values = reading.mapping(values, "", _KEYS)
    name = str(values.get("merge_method"))
    if name not in _NAMES:
        reading.problems.append(f"merge_method {name} is not supported: {nearest_name(name, _NAMES)}")
        return None
    method = _NAMES[name]
    base = None if values.get("base_model") is None else reading.text(values["base_model"], "base_model")
    shared = reading.parameters(values.get("parameters"), "", shared=True)
    if ("models" in values) == ("slices" in values):
        reading.problems.append("expected either models or slices")
        return None
    if "models" in values:
        slices = [_of_models(reading, values["models"])]
    else:
        slices = list(_slices(reading, values["slices"]))
    if METHODS[method].base or method == "slerp":
        slices = [_without_base(each, base, method, reading) for each in slices]
    if "density" in METHODS[method].parameters and not _sets("density", [shared, *_parameters(slices)]):
        shared["density"] = constant(1.0)
    election = name == "dare_ties"
    dtype = values.get("out_dtype") or values.get("dtype")
    tokenizer = values.get("tokenizer_source")
    return Recipe(
        method=method,
        slices=tuple(slices),
        base=None if method == "slerp" else base,
        parameters=shared,
        normalize=False if election and reading.normalize is None else reading.normalize,
        election=election,
        seed=reading.seed,
        dtype=None if dtype is None else str(dtype),
        tokenizer=_tokenizer(reading, tokenizer, base or next((s.model for e in slices for s in e.sources), "")),
    )


def _of_models(reading: _Reading, value: Any) -> Slice:
    sources = []
    for number, entry in enumerate(reading.entries(value, "models"), start=1):
        where = f"models {number}: "
        found = reading.mapping(entry, where, ("model", "parameters"))
        sources.append(
            Source(
                model=reading.text(found.get("model"), f"{where}model"),
                parameters=reading.parameters(found.get("parameters"), where),
            )
        )
    return Slice(sources=tuple(sources))


def _slices(reading: _Reading, value: Any) -> Iterator[Slice]:
    for number, entry in enumerate(reading.entries(value, "slices"), start=1):
        where = f"slices {number}: "
        found = reading.mapping(entry, where, ("sources", "parameters"))
        sources = []
        for place, given in enumerate(reading.entries(found.get("sources"), f"{where}sources"), start=1):
            at = f"{where}sources {place}: "
            source = reading.mapping(given, at, ("model", "layer_range", "parameters"))
            sources.append(
                Source(
                    model=reading.text(source.get("model"), f"{at}model"),
                    layers=_layers(reading, source.get("layer_range"), at),
                    parameters=reading.parameters(source.get("parameters"), at),
                )
            )
        yield Slice(sources=tuple(sources), parameters=reading.parameters(found.get("parameters"), where))


def _layers(reading: _Reading, value: Any, where: str) -> tuple[int, int] | None:
    if value is None:
        return None
    if isinstance(value, list) and len(value) == 2 and all(type(each) is int for each in value):
        return int(value[0]), int(value[1])
    reading.problems.append(f"{where}layer_range is {value!r}: expected [first, after the last]")
    return None


def _without_base(each: Slice, base: str | None, method: str, reading: _Reading) -> Slice:
    """A slice whose sources do not include the base; for slerp, one that begins with it."""
    if base is None:
        return each
    own = [source for source in each.sources if source.model == base]
    others = [source for source in each.sources if source.model != base]
    if method == "slerp":
        if not own:
            reading.problems.append(f"base_model {base} is not one of the two models of slerp")
        return Slice(sources=(*own, *others), parameters=each.parameters)
    layers = own[0].layers if own else None
    return Slice(sources=tuple(others), parameters=each.parameters, base_layers=layers)


def _parameters(slices: list[Slice]) -> Iterator[Parameters]:
    for each in slices:
        yield each.parameters
        yield from (source.parameters for source in each.sources)


def _sets(name: str, places: list[Parameters]) -> bool:
    return any(name in place for place in places)


def _tokenizer(reading: _Reading, value: Any, base: str) -> str | None:
    """The model whose tokenizer is taken."""
    if value is None:
        return None
    if value == "base":
        return base
    text = str(value)
    if text.startswith("model:"):
        return text.removeprefix("model:")
    reading.problems.append(f"tokenizer_source {text} is not supported: use base or model:NAME")
    return None
