"""The tokenizer of a GGUF file as the files of a checkpoint folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlx_suite.gguf.chat_templates import read_templates, turn_end
from mlx_suite.gguf.pre_tokenizers import find_pre_tokenizer
from mlx_suite.gguf.token_list import SENTENCEPIECE, TokenList, read_tokens
from mlx_suite.gguf.tokenizer_json import Space, byte_level_json, sentencepiece_json
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.json_file import read_object

KNOWN_STOPS = (
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|end|>",
    "<end_of_turn>",
    "<eos>",
)
"""Special tokens that end a text, a turn or a message in every model that has them, whether its file says so or not."""
STOP_KEYS = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")


def write_tokenizer(metadata: Mapping[str, Any], folder: Path) -> list[str]:
    """Write tokenizer.json, tokenizer_config.json and the stop tokens in generation_config.json into `folder`.

    `load_tokenizer(folder)` then gives the ids that the model's own tokenizer gives. Keys that generation_config.json
    already has are kept.

    Args:
        metadata: A file's metadata, as `open_gguf` reads it.
        folder: An existing folder.

    Returns a sentence for each thing that the file lacks or that had to be assumed. Raises UserError for a vocabulary
    or pre-tokenizer that is not supported, or a damaged one.
    """
    tokens = read_tokens(metadata)
    missing: list[str] = []
    if "tokenizer.ggml.token_type" not in metadata:
        missing.append("The file has no token types: only BOS, EOS and padding are special tokens.")
    if tokens.kind == SENTENCEPIECE:
        if not tokens.scores:
            missing.append("All scores in the file are equal: tokens are merged in the order of their ids.")
        adds_bos = _adds_bos(metadata, tokens, default=True)
        whole = sentencepiece_json(tokens, space=_space(metadata, tokens), adds_bos=adds_bos)
    else:
        name, assumed = _pre_tokenizer_name(metadata, tokens)
        missing += assumed
        pre = find_pre_tokenizer(name)
        adds_bos = _adds_bos(metadata, tokens, default=pre.adds_bos)
        whole = byte_level_json(tokens, pre, adds_bos=adds_bos)
    templates = read_templates(metadata)
    if not templates:
        missing.append(
            "The file has no chat template: `mlx-suite models import --chat-template` takes one of the model's family, "
            "such as tiny-gemma2's for Gemma."
        )
    roles = {role: tokens.texts[index] for role, index in tokens.roles.items()}
    if not adds_bos and not any("bos_token" in template for template in templates.values()):
        # Qwen's files name a BOS that nothing uses.
        roles.pop("bos_token", None)
    stop_ids = _stop_ids(metadata, tokens)
    if "default" in templates:
        try:
            end = turn_end(templates["default"], roles, tokens)
        except UserError as error:
            missing.append(f"The file's chat template cannot be used: {error.what}.")
        else:
            stop_ids = sorted({*stop_ids, *([] if end is None else [end])})
    if not stop_ids:
        missing.append("The file names no stop token: generation ends only at the length limit.")
    _write(folder / "tokenizer.json", whole)
    _write(folder / "tokenizer_config.json", _config(metadata, roles, templates, adds_bos=adds_bos), indent=2)
    _write_generation(folder / "generation_config.json", tokens, roles, stop_ids)
    return missing


def check_vocabulary(metadata: Mapping[str, Any]) -> None:
    """Raise UserError for a vocabulary or pre-tokenizer that `write_tokenizer` refuses, without building anything."""
    tokens = read_tokens(metadata)
    if tokens.kind != SENTENCEPIECE:
        find_pre_tokenizer(_pre_tokenizer_name(metadata, tokens)[0])


def _space(metadata: Mapping[str, Any], tokens: TokenList) -> Space:
    """Whether texts get a space in front. Gemma's files do not say, but Gemma adds none."""
    gemma = str(metadata.get("general.architecture", "")).startswith("gemma")
    if not metadata.get("tokenizer.ggml.add_space_prefix", not gemma):
        return "never"
    # With [INST] as a token (Mistral 7B 0.3 and later) the template has the spaces inside a sequence.
    return "first" if any(tokens.texts[index] == "[INST]" for index in tokens.added) else "always"


def _adds_bos(metadata: Mapping[str, Any], tokens: TokenList, *, default: bool) -> bool:
    return "bos_token" in tokens.roles and bool(metadata.get("tokenizer.ggml.add_bos_token", default))


def _pre_tokenizer_name(metadata: Mapping[str, Any], tokens: TokenList) -> tuple[str, list[str]]:
    """The pre-tokenizer's name, and a sentence if it had to be guessed, as in files from before May 2024."""
    name = metadata.get("tokenizer.ggml.pre", "default")
    if name != "default":
        return str(name), []
    texts = frozenset(tokens.texts)
    if "<|begin_of_text|>" in texts:
        name = "llama-bpe"
    elif "<|im_start|>" in texts and str(metadata.get("general.architecture", "")).startswith("qwen"):
        name = "qwen2"
    else:
        name = "gpt-2"
    return name, [f"The file does not name its pre-tokenizer: {name} is assumed; a newer file would say."]


def _stop_ids(metadata: Mapping[str, Any], tokens: TokenList) -> list[int]:
    """Ids that end a text, a turn or a message according to the file, and tokens known to end turns."""
    size = len(tokens.texts)
    named = {int(metadata[key]) for key in STOP_KEYS if key in metadata}
    if "eos_token" in tokens.roles:
        named.add(tokens.roles["eos_token"])
    special = {index for index, special in tokens.added.items() if special}
    known = {index for index in special if tokens.texts[index] in KNOWN_STOPS}
    return sorted(index for index in named | known if 0 <= index < size)


def _config(
    metadata: Mapping[str, Any], roles: Mapping[str, str], templates: Mapping[str, str], *, adds_bos: bool
) -> dict[str, Any]:
    """The content of tokenizer_config.json."""
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **roles,
        "add_bos_token": adds_bos,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
    }
    length = metadata.get(f"{metadata.get('general.architecture')}.context_length")
    if length is not None:
        config["model_max_length"] = int(length)
    if list(templates) == ["default"]:
        config["chat_template"] = templates["default"]
    elif templates:
        config["chat_template"] = [{"name": name, "template": text} for name, text in templates.items()]
    return config


def _write_generation(path: Path, tokens: TokenList, roles: Mapping[str, str], stop_ids: list[int]) -> None:
    """Add BOS, padding and stop tokens to generation_config.json."""
    ids: dict[str, Any] = {f"{role}_id": tokens.roles[role] for role in ("bos_token", "pad_token") if role in roles}
    if stop_ids:
        ids["eos_token_id"] = stop_ids
    _write(path, {**ids, **read_object(path)}, indent=2)


def _write(path: Path, content: Mapping[str, Any], indent: int | None = None) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=indent) + "\n", encoding="utf-8")
