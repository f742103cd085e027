"""Whether models can be merged: same architecture, same vocabulary, same chat template. All differences are listed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mlx_suite.checkpoints.load import is_ours
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.runtime.errors import UserError
from mlx_suite.text.tokenizer import Tokenizer, load_tokenizer
from mlx_suite.transfer.merge.inputs import MergeInput

_FREE = ("source", "max_position_embeddings")
"""Fields of a config that do not decide what the weights mean. The context is the first model's."""
_FREE_KEYS = (
    *("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache"),
    *("quantization", "quantization_config", "bos_token_id", "eos_token_id", "pad_token_id", "max_position_embeddings"),
)
_OF_LAYERS = ("num_hidden_layers", "windows")
"""Fields that models taken in parts need not share."""
_PROBES = (
    "The quick brown fox, 12345 times; it's over.",
    "  two  spaces\n\n\ttabs, and\u00a0more \u2014 na\u00efve caf\u00e9",
    "def f(x):\n    return x**2  # HTTPServer",
    "\u4f60\u597d \u041f\u0440\u0438\u0432\u0435\u0442 \U0001f600",
)
"""Texts on which tokenizers with equal vocabularies usually differ if they differ."""
_SHOWN = 5
"""Tokens named of each kind of difference."""


def refuse_incompatible(
    reference: MergeInput, others: Sequence[MergeInput], *, in_parts: bool = False, tokenizer: str | None = None
) -> None:
    """Compare models with the first.

    Args:
        reference: The base, else the first model.
        in_parts: Layers are taken from some of the models; numbers of layers may differ.
        tokenizer: Model whose tokenizer and chat template are taken; templates may then differ.

    Raises UserError that lists every difference in configs, vocabularies and chat templates.
    """
    problems: list[str] = []
    own = _tokenizer(reference)
    for other in others:
        problems += _configs(reference, other, in_parts)
        problems += _vocabularies(reference, own, other, _tokenizer(other))
    templates = [] if tokenizer else list(_templates([reference, *others]))
    if problems or templates:
        fix = "merge models that were finetuned from the same base model"
        if not problems:
            fix = f"choose whose tokenizer and template to keep, such as --tokenizer {reference.name}"
        raise UserError("The models cannot be merged", details=[*problems, *templates], fix=fix)


def tokenizer_source(models: Sequence[MergeInput], chosen: str | None) -> MergeInput:
    """The model whose tokenizer and chat template the merged model gets.

    The chosen one; else the first with a chat template, because a pretrained base usually has none; else the first.
    """
    if chosen is not None:
        found = next((model for model in models if model.name == chosen), None)
        if found is None:
            raise UserError(
                f"{chosen!r} is not one of the models",
                where="--tokenizer",
                fix=f"use one of {', '.join(model.name for model in models)}",
            )
        return found
    return next((model for model in models if model.chat_template() is not None), models[0])


def _configs(reference: MergeInput, other: MergeInput, in_parts: bool) -> Iterator[str]:
    one, two = _comparable(reference.config, in_parts), _comparable(other.config, in_parts)
    for key in sorted(one.keys() | two.keys()):
        if one.get(key) != two.get(key):
            yield f"config: {key} is {one.get(key)} in {reference.name}, {two.get(key)} in {other.name}"


def _comparable(config: Mapping[str, Any], in_parts: bool) -> dict[str, Any]:
    """What must be equal of a config."""
    if is_ours(config):
        shape = ModelConfig.from_dict(config)
        return {
            key: value
            for key, value in {**asdict(shape), "head_dim": shape.head_dim}.items()
            if key not in _FREE and not (in_parts and key in _OF_LAYERS)
        }
    return {
        key: value
        for key, value in config.items()
        if key not in _FREE_KEYS and not (in_parts and key in (*_OF_LAYERS, "layer_types"))
    }


def _tokenizer(model: MergeInput) -> Tokenizer | None:
    """The model's tokenizer; None if it has none, as a checkpoint for experiments may."""
    if not any((model.folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        return None
    return load_tokenizer(model.folder)


def _vocabularies(
    reference: MergeInput, one: Tokenizer | None, other: MergeInput, two: Tokenizer | None
) -> Iterator[str]:
    if one is None or two is None:
        if (one is None) != (two is None):
            yield f"tokenizer: {(reference if one is None else other).name} has none"
        return
    ours, theirs = one.backend.vocabulary(), two.backend.vocabulary()
    names = (reference.name, other.name)
    for name, only in ((names[0], ours.keys() - theirs.keys()), (names[1], theirs.keys() - ours.keys())):
        if only:
            yield f"vocabulary: {len(only):,} tokens only in {name}: {_some(only)}"
    moved = [token for token, index in ours.items() if token in theirs and theirs[token] != index]
    if moved:
        yield f"vocabulary: {len(moved):,} tokens with other ids in {names[1]} than in {names[0]}: {_some(moved)}"
    if ours == theirs and (text := next((text for text in _PROBES if one.encode(text) != two.encode(text)), None)):
        yield f"tokenizer: {names[0]} and {names[1]} have the same tokens but split {text!r} in different ways"


def _templates(models: Sequence[MergeInput]) -> Iterator[str]:
    """One line per chat template that differs from the first; models without one are no difference."""
    having = [(model, template) for model in models if (template := model.chat_template()) is not None]
    for model, template in having[1:]:
        first, source = having[0]
        if template.strip() != source.strip():
            yield f"chat template: that of {model.name} ({len(template):,} characters) differs from that of " + (
                f"{first.name} ({len(source):,} characters)"
            )


def _some(tokens: Any) -> str:
    names = sorted(tokens)[:_SHOWN]
    return ", ".join(map(repr, names)) + (" …" if len(tokens) > _SHOWN else "")
