"""What `Tokenizer` needs from a library that splits text into tokens."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mlx_suite.text.token_bytes import TokenBytes

TURN_MARKERS = frozenset(
    {
        "<start_of_turn>",
        "<end_of_turn>",
        "<|im_start|>",
        "<|im_end|>",
        "<|endoftext|>",
        "<|system|>",
        "<|user|>",
        "<|assistant|>",
        "<|end|>",
        "[INST]",
        "[/INST]",
        "[SYSTEM_PROMPT]",
        "[/SYSTEM_PROMPT]",
    }
)
"""Markers that open or close a turn. Some checkpoints forget to call them special; user text may
never write them."""

CONTROL_SHAPE = re.compile(r"<[^<>\s]+>|\[/?[A-Z_]+\]")
"""How a control token looks. A file that makes `!` its padding token does not make every `!` a
control token."""


@dataclass(frozen=True, kw_only=True)
class SpecialToken:
    """A special token as it may stand in trusted template text."""

    id: int
    """Its token id."""
    eats_left: bool = False
    """Whether it swallows the whitespace before it (`lstrip` of the tokenizers library)."""
    eats_right: bool = False
    """Whether it swallows the whitespace after it (`rstrip`, which Phi-3 uses)."""


@dataclass(frozen=True, kw_only=True)
class PlainEncoding:
    """The tokens of a text without special tokens, and the characters each one stands for."""

    ids: list[int]
    """Token ids."""
    spans: Sequence[tuple[int, int]]
    """First character and the one past the last, for each token. A character of several tokens is
    in each."""


class Backend(Protocol):
    """One loaded vocabulary. `encode` never yields one of `marks`, whatever the text holds."""

    @property
    def size(self) -> int:
        """Number of ids: the largest id + 1."""

    @property
    def marks(self) -> Mapping[str, SpecialToken]:
        """The special tokens by their text."""

    @property
    def token_bytes(self) -> TokenBytes | None:
        """How tokens are spelled, or None when only `decode` knows."""

    @property
    def adds_bos(self) -> bool | None:
        """Whether the files say that a text starts with BOS; None when they are silent."""

    def encode(self, text: str, *, at_start: bool) -> PlainEncoding:
        """Split text that follows nothing (`at_start`) or a special token."""

    def decode(self, ids: Sequence[int]) -> str:
        """The library's own decoding, special tokens shown."""

    def id_of(self, token: str) -> int | None:
        """The id of `token`, or None."""

    def token_of(self, token_id: int) -> str | None:
        """The token with this id as the vocabulary spells it, or None."""

    def is_added(self, token_id: int) -> bool:
        """Whether the token is plain text beside the model's own vocabulary."""
