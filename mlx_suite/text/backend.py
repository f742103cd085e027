"""Interface between `Tokenizer` and the libraries that split text into tokens."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

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
"""Markers that open or close a turn. Some checkpoints do not mark them as special, but user text must never encode
them."""

TokenIds = npt.NDArray[np.uint32]

CONTROL_SHAPE = re.compile(r"<[^<>\s]+>|\[/?[A-Z_]+\]")
"""Shape of a control token. A file that names `!` as its padding token must not turn every `!` into a control token."""


@dataclass(frozen=True, kw_only=True)
class SpecialToken:
    """A special token that trusted template text may contain."""

    id: int
    eats_left: bool = False
    """Whether it absorbs the whitespace before it (`lstrip` in the tokenizers library)."""
    eats_right: bool = False
    """Whether it absorbs the whitespace after it (`rstrip`, which Phi-3 uses)."""


@dataclass(frozen=True, kw_only=True)
class PlainEncoding:
    """Tokens of a text without special tokens, and the characters each one covers."""

    ids: list[int]
    spans: Sequence[tuple[int, int]]
    """Character range [start, end) of each token. A character split over several tokens is in the range of each."""


class Backend(Protocol):
    """One loaded vocabulary. `encode` never returns one of `marks`, whatever the text contains."""

    @property
    def size(self) -> int:
        """Number of ids: the largest id + 1."""

    @property
    def marks(self) -> Mapping[str, SpecialToken]:
        """The special tokens by their text."""

    @property
    def token_bytes(self) -> TokenBytes | None:
        """Spelling of tokens as bytes; None if only `decode` knows it."""

    @property
    def adds_bos(self) -> bool | None:
        """Whether a text starts with BOS according to the tokenizer file; None if it does not say."""

    def encode(self, text: str, *, at_start: bool) -> PlainEncoding:
        """Encode text at the start of a sequence (`at_start`) or after a special token."""

    def encode_batch(self, texts: Sequence[str], *, at_start: bool) -> list[TokenIds]:
        """The ids of `encode` for each text, on all cores."""

    @property
    def digest(self) -> str:
        """Digest of everything that `encode` depends on, 64 hexadecimal digits."""

    def decode(self, ids: Sequence[int]) -> str:
        """Decode with the library, including special tokens."""

    def id_of(self, token: str) -> int | None:
        """The id of `token`, or None."""

    def token_of(self, token_id: int) -> str | None:
        """The token with this id, as spelled in the vocabulary, or None."""

    def vocabulary(self) -> Mapping[str, int]:
        """Every token with its id."""

    def is_added(self, token_id: int) -> bool:
        """Whether the token was added to the model's vocabulary; added tokens are spelled as plain text."""
