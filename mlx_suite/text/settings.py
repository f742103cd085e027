"""Tokenizer settings from a checkpoint's configuration files: special tokens by role, stop tokens, BOS."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlx_suite.runtime.json_file import FLAG, OBJECT, OBJECTS, TEXT, TOKEN, TOKEN_IDS, Kind, check_kinds, read_object

ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""Names of special tokens in tokenizer_config.json and chat templates."""

TEMPLATE_FILE = "chat_template.jinja"
"""Chat template of a model, or the one an adapter was trained with."""

LEGACY_TEMPLATE_FILE = "chat_template.json"
"""Chat template in a JSON object, as transformers 4 saved it for processors."""

STOP_FILES = ("generation_config.json", "config.json")
"""Files that may list the stop token ids, the most reliable first."""

TEMPLATES = Kind(
    name="a text, or a list of objects with name and template",
    holds=lambda value: (
        TEXT.holds(value)
        or (OBJECTS.holds(value) and all(TEXT.holds(each.get(key)) for each in value for key in ("name", "template")))
    ),
)
ADDED_TOKENS = Kind(
    name="an object of tokens by id",
    holds=lambda value: (
        OBJECT.holds(value)
        and all(index.isdecimal() and len(index) < 10 and TOKEN.holds(token) for index, token in value.items())
    ),
)
TOKENIZER_KEYS = {
    **dict.fromkeys(ROLES, TOKEN),
    "added_tokens_decoder": ADDED_TOKENS,
    "add_bos_token": FLAG,
    "chat_template": TEMPLATES,
}
"""Keys of tokenizer_config.json that are read, and what they must be."""


@dataclass(frozen=True, kw_only=True)
class TokenizerSettings:
    """Tokenizer settings of one checkpoint folder."""

    roles: Mapping[str, str]
    """Special tokens by role, such as `bos_token` → `<bos>`. Roles that the checkpoint leaves empty are missing."""
    special: Mapping[str, int]
    """Ids of the tokens that tokenizer_config.json marks as special, by text."""
    stop_ids: frozenset[int] | None
    """Stop token ids; None if no file lists them."""
    embedding_rows: int | None
    """`vocab_size` of config.json: rows of the model's embedding. None without a config."""
    adds_bos: bool | None
    """`add_bos_token` of tokenizer_config.json; None if it is missing."""
    chat_template: object = field(repr=False)
    """`chat_template` of tokenizer_config.json, unparsed: text, a list of named texts, or None."""

    @property
    def control(self) -> frozenset[str]:
        """Text of every token that these files mark as special."""
        return frozenset({*self.roles.values(), *self.special})


def read_settings(folder: Path) -> TokenizerSettings:
    """Read those of tokenizer_config.json, special_tokens_map.json, generation_config.json and config.json that exist.

    Raises UserError if one of them is damaged.
    """
    config = read_object(folder / "tokenizer_config.json", TOKENIZER_KEYS)
    named = {**read_object(folder / "special_tokens_map.json", dict.fromkeys(ROLES, TOKEN)), **config}
    roles = {role: text for role in ROLES if (text := token_text(named.get(role)))}
    adds_bos = config.get("add_bos_token")
    return TokenizerSettings(
        roles=roles,
        special=_special(config),
        stop_ids=_stop_ids(folder),
        embedding_rows=_embedding_rows(folder),
        adds_bos=adds_bos if isinstance(adds_bos, bool) else None,
        chat_template=config.get("chat_template"),
    )


def token_text(token: object) -> str | None:
    """The text of a token that is stored as text or as an object with `content`; None for anything else."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None


def _special(config: Mapping[str, Any]) -> dict[str, int]:
    """Special tokens of `added_tokens_decoder` and their ids."""
    added = config.get("added_tokens_decoder")
    if not isinstance(added, dict):
        return {}
    return {
        token["content"]: int(index)
        for index, token in added.items()
        if isinstance(token, dict) and token.get("special") and str(index).isdecimal()
    }


def _embedding_rows(folder: Path) -> int | None:
    """`vocab_size` of config.json, or of its `text_config` for a multimodal model."""
    config = read_object(folder / "config.json")
    text_config = config.get("text_config")
    nested = text_config if isinstance(text_config, dict) else {}
    rows = config.get("vocab_size", nested.get("vocab_size"))
    return rows if type(rows) is int and rows > 0 else None


def _stop_ids(folder: Path) -> frozenset[int] | None:
    """`eos_token_id`, one id or a list, from the first file that has it."""
    for name in STOP_FILES:
        config = read_object(folder / name, {"eos_token_id": TOKEN_IDS})
        text_config = config.get("text_config")
        nested = text_config if isinstance(text_config, dict) else {}
        value = config.get("eos_token_id", nested.get("eos_token_id"))
        if value is None:
            continue
        check_kinds({"eos_token_id": value}, {"eos_token_id": TOKEN_IDS}, folder / name)
        return frozenset(value if isinstance(value, list) else [value])
    return None
