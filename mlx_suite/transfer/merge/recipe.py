"""A merge as a value: the method, the models, the layers taken from each, and the parameters."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mlx_suite.runtime.errors import UserError, invalid, nearest_name
from mlx_suite.transfer.merge.schedule import Parameters, Place, Schedule

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True)
class Method:
    """What a merge method takes."""

    summary: str
    least: int = 2
    """Fewest models, the base not counted."""
    most: int | None = None
    base: bool = False
    """Whether it merges differences from a base model."""
    parameters: Mapping[str, float | None] = field(default_factory=dict)
    """Parameters with their defaults; None: must be given."""


WEIGHT = {"weight": 1.0}

METHODS: Mapping[str, Method] = {
    "linear": Method(summary="weighted average (model soup)", parameters=WEIGHT),
    "slerp": Method(summary="spherical interpolation of two models", most=2, parameters={"t": 0.5}),
    "task": Method(
        summary="task arithmetic: weighted sum of the differences from the base",
        least=1,
        base=True,
        parameters={**WEIGHT, "lambda": 1.0},
    ),
    "ties": Method(
        summary="trimmed differences, of which each element's majority sign is averaged",
        least=1,
        base=True,
        parameters={**WEIGHT, "density": 0.2, "lambda": 1.0},
    ),
    "dare": Method(
        summary="differences with elements dropped at random and the rest rescaled",
        least=1,
        base=True,
        parameters={**WEIGHT, "density": 0.5, "lambda": 1.0},
    ),
    "model-stock": Method(summary="towards the base by the angle between the models", base=True),
    "karcher": Method(summary="mean on the sphere", parameters=WEIGHT),
    "ema": Method(summary="moving average over checkpoints in order", parameters={"mu": None}),
    "liti": Method(
        summary="from the base a part of the way to the model", least=1, most=1, base=True, parameters={"eta": 0.3}
    ),
    "warp": Method(
        summary="SLERP of the differences, then a part of the way from the base",
        base=True,
        parameters={"t": 0.5, "eta": 0.3},
    ),
    "passthrough": Method(summary="layers as they are, stacked by slices (recipes only)", least=1, most=1),
}
"""Methods by name. Their formulas are in `combinations` and `elections`."""

RANGES: Mapping[str, tuple[float, float]] = {"density": (0.0, 1.0), "mu": (0.0, 1.0)}
"""Parameters that must be above the first number and at most the second."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model in a slice."""

    model: str
    layers: tuple[int, int] | None = None
    """First layer taken, and the one after the last. None: all."""
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Consecutive layers of the merged model."""

    sources: tuple[Source, ...]
    base_layers: tuple[int, int] | None = None
    """Layers of the base model, as in `Source`. None: those of the first source."""
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that determines a merged model."""

    method: str
    slices: tuple[Slice, ...]
    """Usually one, with all layers of every model."""
    base: str | None = None
    parameters: Parameters = field(default_factory=dict)
    normalize: bool | None = None
    """Divide by the sum of the weights (of those with the elected sign). None: yes for linear, ties and dare with
    `election`, no for task and dare without it."""
    election: bool = False
    """dare: elect signs as TIES does."""
    seed: int = 0
    """dare: seed of the dropped elements."""
    dtype: str | None = None
    """Dtype of the merged weights. None: each tensor's in the base, else in the first model."""
    tokenizer: str | None = None
    """Model whose tokenizer and chat template are taken. None: they must not differ."""

    @property
    def models(self) -> tuple[str, ...]:
        """The merged models, each once, without the base unless it is one of them."""
        return tuple(dict.fromkeys(source.model for each in self.slices for source in each.sources))

    @property
    def normalizes(self) -> bool:
        """`normalize`, or its default."""
        if self.normalize is not None:
            return self.normalize
        return self.method in ("linear", "ties") or self.election

    def value(self, name: str, each: Slice, source: Source | None, place: Place) -> float:
        """A parameter of the method for a tensor; the most specific setting counts: source, slice, recipe, default."""
        for parameters in (source.parameters if source else {}, each.parameters, self.parameters):
            value = parameters[name].at(place) if name in parameters else None
            if value is not None:
                return value
        default = METHODS[self.method].parameters[name]
        assert default is not None, f"{name} was not checked"
        return default


def check_recipe(recipe: Recipe, where: str = "") -> None:
    """Validate a recipe. Raises UserError listing every problem."""
    if recipe.method not in METHODS:
        raise UserError(
            f"There is no merge method {recipe.method!r}", where=where, fix=nearest_name(recipe.method, METHODS)
        )
    if problems := list(_problems(recipe)):
        raise invalid("setting", problems, "mlx-suite merge --help", where)


def whole_models(models: Sequence[str], parameters: Sequence[Parameters] | None = None) -> tuple[Slice, ...]:
    """One slice with all layers of the models; `parameters` are each model's own."""
    own = parameters or [{}] * len(models)
    sources = (Source(model=model, parameters=each) for model, each in zip(models, own, strict=True))
    return (Slice(sources=tuple(sources)),)


def _problems(recipe: Recipe) -> Iterator[str]:
    method = METHODS[recipe.method]
    for number, each in enumerate(recipe.slices):
        name = f"slice {number + 1}: " if len(recipe.slices) > 1 else ""
        count = len(each.sources)
        if count < method.least or (method.most is not None and count > method.most):
            yield f"{name}{recipe.method} takes {_wanted(method)}, and {count} {'is' if count == 1 else 'are'} given"
        lengths = {source.layers[1] - source.layers[0] for source in each.sources if source.layers}
        if len(lengths) > 1:
            yield f"{name}the sources have layer ranges of {' and '.join(map(str, sorted(lengths)))} layers"
    if method.base and recipe.base is None:
        yield f"{recipe.method} needs a base model: --base"
    for name, schedule in _given(recipe):
        if name not in method.parameters:
            yield f"{recipe.method} has no {name}" + (
                f"; it has {', '.join(method.parameters)}" if method.parameters else ""
            )
            continue
        low, high = RANGES.get(name, (None, None))
        if low is not None and high is not None and not all(low < value <= high for value in schedule.numbers):
            yield f"{name} is {schedule}: expected above {low:g} and at most {high:g}"
    given = {name for name, _ in _given(recipe)}
    for name, default in method.parameters.items():
        if default is None and name not in given:
            yield f"{recipe.method} needs {name}: --{name}"
    if recipe.dtype is not None and recipe.dtype not in DTYPES:
        yield f"dtype is {recipe.dtype!r}: expected one of {', '.join(DTYPES)}"
    if recipe.normalize is not None and "weight" not in method.parameters:
        yield f"normalize has no effect on {recipe.method}, which has no weights"
    if recipe.method == "karcher" and recipe.normalize is False:
        yield "karcher always divides by the sum of the weights"
    if recipe.method == "warp" and "t" in given and len(recipe.models) > 2:
        yield f"t is for two models; of {len(recipe.models)}, each has an equal part"
    if recipe.election and recipe.method != "dare":
        yield "only dare can elect signs; ties always does"
    if recipe.seed < 0:
        yield f"seed is {recipe.seed}: expected a whole number of at least 0"


def _given(recipe: Recipe) -> Iterator[tuple[str, Schedule]]:
    yield from recipe.parameters.items()
    for each in recipe.slices:
        yield from each.parameters.items()
        for source in each.sources:
            yield from source.parameters.items()


def _wanted(method: Method) -> str:
    if method.most == method.least:
        return f"{method.least} model{'s' if method.least > 1 else ''}"
    return f"at least {method.least} model{'s' if method.least > 1 else ''}" + (
        f" and at most {method.most}" if method.most else ""
    )
