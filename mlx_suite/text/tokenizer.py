"""Text to token ids and back, the same for `tokenizer.json` and for SentencePiece models.

transformers is not needed, so loading takes as long as reading the file.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from re import Pattern

from mlx_suite.runtime.errors import UserError
from mlx_suite.text.backend import TURN_MARKERS, Backend
from mlx_suite.text.fast_backend import FastBackend
from mlx_suite.text.pieces import (
    TEMPLATE,
    EncodedChat,
    Piece,
    encode_pieces,
    specials_pattern,
    whole_characters,
)
from mlx_suite.text.settings import TokenizerSettings, read_settings


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """The tokenizer of one checkpoint. Load it with `load_tokenizer`."""

    backend: Backend
    """The library that splits text."""
    settings: TokenizerSettings
    """What the checkpoint's files say about special tokens."""
    origin: str
    """Where the tokenizer came from, for messages."""
    _bytes: dict[int, bytes] = field(default_factory=dict, repr=False, compare=False)

    @property
    def vocab_size(self) -> int:
        """Number of ids. A model's embedding may have more rows, padded for speed."""
        return self.backend.size

    @cached_property
    def bos_id(self) -> int | None:
        """The id that begins a text, or None for a model that has no such token (Qwen)."""
        return self._role("bos_token")

    @cached_property
    def pad_id(self) -> int | None:
        """The padding id, or None. It may equal a stop id, so never find padding by it."""
        return self._role("pad_token")

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end what a model writes: of generation_config.json, else config.json, else the
        EOS token."""
        if self.settings.stop_ids is not None:
            return self.settings.stop_ids
        eos = self._role("eos_token")
        return frozenset() if eos is None else frozenset({eos})

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids of special tokens, which user text never yields and which `decode` leaves out."""
        return frozenset(mark.id for mark in self.backend.marks.values())

    @cached_property
    def adds_bos(self) -> bool:
        """Whether every text for this model begins with BOS."""
        if self.bos_id is None:
            return False
        for said in (self.settings.adds_bos, self.backend.adds_bos):
            if said is not None:
                return said
        return True

    def encode(self, text: str) -> list[int]:
        """Ids of user text: no BOS, and `<|eot_id|>` inside it is ordinary text."""
        return self.backend.encode(whole_characters(text), at_start=True).ids

    def encode_prompt(self, text: str) -> list[int]:
        """Ids of a text that a model continues: BOS, if this model wants one, then the text."""
        return [*self._bos, *self.encode(text)]

    def encode_with_specials(self, text: str) -> list[int]:
        """Ids of trusted text, in which special tokens are written by name. Adds no BOS."""
        return self.encode_pieces([Piece(text=text, owner=TEMPLATE)]).ids

    def encode_pieces(self, pieces: Iterable[Piece]) -> EncodedChat:
        """Ids and owners of template text and message contents, joined; special tokens only from
        the template."""
        return encode_pieces(self.backend, self.specials, pieces)

    def with_one_bos(self, chat: EncodedChat) -> EncodedChat:
        """The same chat beginning with exactly one BOS, or with what it has if this model wants
        none."""
        if self.bos_id is None:
            return chat
        count = 0
        while count < len(chat.ids) and chat.ids[count] == self.bos_id:
            count += 1
        wanted = 1 if count or self.adds_bos else 0
        return EncodedChat(
            ids=[self.bos_id] * wanted + chat.ids[count:],
            owner=[TEMPLATE] * wanted + chat.owner[count:],
        )

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """The text of `ids`. Bytes that are no UTF-8 become U+FFFD; ids beyond the vocabulary have
        no text."""
        shown = [index for index in ids if not (skip_special and index in self.special_ids)]
        if self.backend.token_bytes is None:
            return self.backend.decode(shown)
        text = b"".join(self.bytes_of(index) for index in shown)
        if self.backend.token_bytes.drops_first_space:
            text = text.removeprefix(b" ")
        return text.decode("utf-8", errors="replace")

    def bytes_of(self, token_id: int) -> bytes:
        """The bytes that one token writes. Only for a backend whose `token_bytes` is known."""
        known = self._bytes.get(token_id)
        if known is None:
            spelling, token = self.backend.token_bytes, self.backend.token_of(token_id)
            assert spelling is not None, "this vocabulary has no byte spelling"
            known = b""
            if token is not None:
                known = spelling.of(token, added=self.backend.is_added(token_id))
            self._bytes[token_id] = known
        return known

    def id_of(self, token: str) -> int | None:
        """The id of a token as the vocabulary spells it, or None."""
        return self.backend.id_of(token)

    def token_of(self, token_id: int) -> str | None:
        """The token with this id as the vocabulary spells it, or None."""
        return self.backend.token_of(token_id)

    @cached_property
    def specials(self) -> Pattern[str] | None:
        """Finds special tokens in text; None when the vocabulary has none."""
        return specials_pattern(self.backend.marks)

    @property
    def _bos(self) -> list[int]:
        return [self.bos_id] if self.adds_bos and self.bos_id is not None else []

    def _role(self, role: str) -> int | None:
        text = self.settings.roles.get(role)
        return None if text is None else self.backend.id_of(text)


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """Load the tokenizer of a Hugging Face folder: tokenizer.json if it is there, else
    tokenizer.model.

    Raises UserError when there is none or when a file is damaged.
    """
    folder = Path(folder)
    settings = read_settings(folder)
    control = settings.control | TURN_MARKERS
    fast, model = folder / "tokenizer.json", folder / "tokenizer.model"
    backend: Backend
    if fast.is_file():
        backend = FastBackend.load(fast, control, settings.stop_ids or ())
    elif model.is_file():
        from mlx_suite.text.sentencepiece_backend import SentencePieceBackend

        backend = pieces = SentencePieceBackend.load(model, control, settings.special)
        settings = replace(settings, roles={**pieces.roles, **settings.roles})
    else:
        raise UserError(
            "no tokenizer: neither tokenizer.json nor tokenizer.model" if folder.is_dir() else "no such folder",
            str(folder),
            "name a folder with a whole checkpoint, or download the model again",
        )
    return Tokenizer(backend=backend, settings=settings, origin=str(folder))
