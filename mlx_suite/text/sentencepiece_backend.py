"""Backend for `tokenizer.model`, using SentencePiece, for folders without a tokenizer.json."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from mlx_suite.runtime.errors import UserError
from mlx_suite.text.backend import PlainEncoding, SpecialToken, TokenIds
from mlx_suite.text.token_bytes import TokenBytes

ModelProto: Any = sentencepiece_model_pb2.__dict__["ModelProto"]
"""Message type of a model file; protobuf creates it at import, so type checkers cannot see it."""

CONTROL = 3
"""Piece type that is never matched in text (sentencepiece_model.proto)."""
USER_DEFINED = 4
"""Piece type that is matched in any text, before the merges."""


class SentencePieceBackend:
    """A tokenizer.model, configured so that text never becomes a special token.

    SentencePiece matches user-defined pieces, including Gemma's turn markers, in any text. Pieces named in `control`
    are therefore converted to control pieces, which it never matches. Safe to share between threads.
    """

    def __init__(
        self,
        model: bytes,
        control: Collection[str] = (),
        added: Mapping[str, int] | None = None,
    ) -> None:
        """`control`: names of special pieces; `added`: special tokens beyond the model's own pieces."""
        proto = ModelProto()
        proto.ParseFromString(model)
        for piece in proto.pieces:
            if piece.type == USER_DEFINED and piece.piece in control:
                piece.type = CONTROL
        self._proto = proto
        self._prepends = proto.normalizer_spec.add_dummy_prefix
        self._library = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
        pieces = self._library.get_piece_size()
        self._added = {name: index for name, index in (added or {}).items() if index >= pieces}
        self._added_by_id = {index: name for name, index in self._added.items()}
        self._size = max([pieces, *(index + 1 for index in self._added_by_id)])
        self._marks = {
            self._library.id_to_piece(index): SpecialToken(id=index)
            for index in range(pieces)
            if self._library.is_control(index) or self._library.is_unknown(index)
        } | {name: SpecialToken(id=index) for name, index in self._added.items()}
        self._token_bytes = TokenBytes(spelling="sentencepiece", byte_pieces=True, drops_first_space=self._prepends)

    @classmethod
    def load(
        cls,
        path: Path,
        control: Collection[str] = (),
        added: Mapping[str, int] | None = None,
    ) -> "SentencePieceBackend":
        """Read a tokenizer.model. Raises UserError if it is damaged."""
        try:
            return cls(path.read_bytes(), control, added)
        except UserError:
            raise
        except Exception as error:  # protobuf's DecodeError, SentencePiece's RuntimeError
            raise UserError(
                f"tokenizer.model is not a SentencePiece model: {error}",
                str(path),
                "take the file from the original model",
            ) from error

    @property
    def size(self) -> int:
        """Number of ids."""
        return self._size

    @property
    def marks(self) -> Mapping[str, SpecialToken]:
        """The special tokens by their text."""
        return self._marks

    @property
    def token_bytes(self) -> TokenBytes:
        """Spelling of tokens as bytes."""
        return self._token_bytes

    @property
    def adds_bos(self) -> bool | None:
        """Always None: a SentencePiece model does not say."""
        return None

    @property
    def roles(self) -> Mapping[str, str]:
        """Special tokens by role, as named in the model file, for a folder without a config."""
        library = self._library
        ids = {
            "bos_token": library.bos_id(),
            "eos_token": library.eos_id(),
            "pad_token": library.pad_id(),
            "unk_token": library.unk_id(),
        }
        return {role: library.id_to_piece(index) for role, index in ids.items() if index >= 0}

    def encode(self, text: str, *, at_start: bool) -> PlainEncoding:
        """Encode text; after a special token it gets no leading space."""
        library = self._library if at_start else self._inside
        ids = library.encode(text)
        return PlainEncoding(ids=ids, spans=self._spans(text, ids))

    def encode_batch(self, texts: Sequence[str], *, at_start: bool) -> list[TokenIds]:
        """The ids of `encode` for each text, on all cores."""
        library = self._library if at_start else self._inside
        return [np.array(ids, np.uint32) for ids in library.encode(list(texts))]

    @cached_property
    def digest(self) -> str:
        """Digest of everything that `encode` depends on, 64 hexadecimal digits."""
        model = self._proto.SerializeToString(deterministic=True)
        return hashlib.sha256(model + repr(sorted(self._added.items())).encode()).hexdigest()

    def decode(self, ids: Sequence[int]) -> str:
        """Decode with the library, which gives control pieces no text."""
        text: str = self._library.decode([i for i in ids if i not in self._added_by_id])
        return text

    def id_of(self, token: str) -> int | None:
        """The id of `token`, or None. SentencePiece returns the unknown piece for an unknown name."""
        if token in self._added:
            return self._added[token]
        index = self._library.piece_to_id(token)
        return index if self._library.id_to_piece(index) == token else None

    def vocabulary(self) -> Mapping[str, int]:
        """Every token with its id."""
        pieces = {self._library.id_to_piece(index): index for index in range(self._library.get_piece_size())}
        return pieces | self._added

    def token_of(self, token_id: int) -> str | None:
        """The piece with this id, or None."""
        if 0 <= token_id < self._library.get_piece_size():
            return self._library.id_to_piece(token_id)
        return self._added_by_id.get(token_id)

    def is_added(self, token_id: int) -> bool:
        """Whether the token lies beyond the model's own pieces."""
        return token_id in self._added_by_id

    @cached_property
    def _inside(self) -> sentencepiece.SentencePieceProcessor:
        """The processor for text after a special token, which gets no dummy space in front."""
        if not self._prepends:
            return self._library
        proto = ModelProto()
        proto.CopyFrom(self._proto)
        proto.normalizer_spec.add_dummy_prefix = False
        return sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())

    def _spans(self, text: str, ids: Sequence[int]) -> list[tuple[int, int]]:
        """Character range of each token, counted along the bytes (exact if the model does not normalize text)."""
        character_of = [place for place, letter in enumerate(text) for _ in letter.encode()]
        if not character_of:
            return [(0, 0) for _ in ids]
        widths = [len(self._token_bytes.of(self._library.id_to_piece(index), added=False)) for index in ids]
        last = len(character_of) - 1
        end = min(0, len(character_of) - sum(widths))
        spans = []
        for width in widths:
            start, end = end, end + width
            first, final = (min(max(place, 0), last) for place in (start, end - 1))
            spans.append((character_of[first], character_of[final] + 1))
        return spans
