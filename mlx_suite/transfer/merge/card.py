"""The card of a merged model: what it was made of, with everything needed to make it again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from mlx_suite.transfer.merge.recipe import METHODS, Recipe, Slice
from mlx_suite.transfer.merge.schedule import Parameters, to_yaml

CARD = "README.md"


@dataclass(frozen=True, kw_only=True)
class MergeFacts:
    """What a card says."""

    recipe: Recipe
    digests: Mapping[str, str]
    """Digest of the weights that were read of each model, in fp32 and dequantized, as `checkpoints.digest` has it."""
    result: str
    """Digest of the merged weights."""
    notes: Mapping[str, tuple[str, ...]]
    dtype: str
    tokenizer: str
    """Model whose tokenizer and chat template were taken."""
    command: str


def card_text(facts: MergeFacts, name: str) -> str:
    """The card as Markdown with metadata for the Hugging Face hub."""
    recipe = facts.recipe
    metadata = {
        "base_model": list(facts.digests),
        "base_model_relation": "merge",
        "library_name": "mlx",
        "pipeline_tag": "text-generation",
        "tags": ["merge", "mlx-suite"],
    }
    method = METHODS[recipe.method]
    lines = [
        "---",
        yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True).rstrip(),
        "---",
        "",
        f"# {name}",
        "",
        f"Merged by mlx-suite with the method `{recipe.method}`: {method.summary}.",
        "",
        "| model | part | digest of its weights |",
        "|--|--|--|",
    ]
    for model, digest in facts.digests.items():
        part = "base" if model == recipe.base and method.base else "merged"
        notes = "".join(f"; {note}" for note in facts.notes.get(model, ()))
        lines.append(f"| {model} | {part}{notes} | `{digest}` |")
    lines += [
        "",
        f"The merged weights are {facts.dtype} and have the digest `{facts.result}`. Tokenizer and chat template are "
        f"those of {facts.tokenizer}.",
    ]
    if facts.command:
        lines += ["", "Made by", "", "```sh", facts.command, "```"]
    lines += ["", "The recipe, with all parameters:", "", "```yaml", recipe_text(recipe), "```", ""]
    return "\n".join(lines)


def recipe_text(recipe: Recipe) -> str:
    """A recipe as YAML, which `mlx-suite merge` reads."""
    from mlx_suite.transfer.merge.mergekit_recipe import name_of

    values: dict[str, Any] = {"merge_method": name_of(recipe)}
    if recipe.base is not None:
        values["base_model"] = recipe.base
    elif recipe.method == "slerp":
        values["base_model"] = recipe.models[0]  # mergekit's name for the model at t = 0
    whole = len(recipe.slices) == 1 and not any(source.layers for source in recipe.slices[0].sources)
    if whole:
        values["models"] = [_entry({"model": source.model}, source.parameters) for source in recipe.slices[0].sources]
    else:
        values["slices"] = [_slice(each, recipe) for each in recipe.slices]
    shared = recipe.slices[0].parameters if whole else {}
    parameters = {name: to_yaml(schedule) for name, schedule in {**recipe.parameters, **shared}.items()}
    parameters |= {
        name: default
        for name, default in METHODS[recipe.method].parameters.items()
        if default is not None and not _is_set(name, recipe)
    }
    if recipe.method == "warp" and len(recipe.models) > 2:
        del parameters["t"]
    if recipe.method in ("linear", "task", "ties", "dare"):
        parameters["normalize"] = recipe.normalizes
    if recipe.method == "dare":
        parameters["seed"] = recipe.seed
    if parameters:
        values["parameters"] = parameters
    if recipe.dtype is not None:
        values["out_dtype"] = recipe.dtype
    if recipe.tokenizer is not None:
        values["tokenizer_source"] = f"model:{recipe.tokenizer}"
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True)).rstrip()


def _is_set(name: str, recipe: Recipe) -> bool:
    """Whether a parameter is set anywhere; a default for the rest would hide nothing then."""
    sources = [source for each in recipe.slices for source in each.sources]
    places = [recipe.parameters, *(each.parameters for each in recipe.slices), *(each.parameters for each in sources)]
    return any(name in place for place in places)


def _slice(each: Slice, recipe: Recipe) -> dict[str, Any]:
    sources = []
    for source in each.sources:
        layers = {"layer_range": list(source.layers)} if source.layers else {}
        sources.append(_entry({"model": source.model, **layers}, source.parameters))
    if each.base_layers is not None:
        sources.insert(0, {"model": recipe.base, "layer_range": list(each.base_layers)})
    return _entry({"sources": sources}, each.parameters)


def _entry(entry: dict[str, Any], parameters: Parameters) -> dict[str, Any]:
    return entry | ({"parameters": {name: to_yaml(each) for name, each in parameters.items()}} if parameters else {})
