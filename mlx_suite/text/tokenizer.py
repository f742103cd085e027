"""Encoding and decoding, with one interface for `tokenizer.json` and SentencePiece models.

transformers is not needed, so loading takes only as long as reading the file.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from re import Pattern

from mlx_suite.runtime.errors import UserError, warn_once
from mlx_suite.text.backend import TURN_MARKERS, Backend, TokenIds
from mlx_suite.text.fast_backend import FastBackend
from mlx_suite.text.pieces import (
    TEMPLATE,
    EncodedChat,
    Piece,
    encode_pieces,
    replace_surrogates,
    specials_pattern,
)
from mlx_suite.text.reserved_tokens import reserved_ids
from mlx_suite.text.settings import TokenizerSettings, read_settings


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """The tokenizer of one checkpoint. Load it with `load_tokenizer`."""

    backend: Backend
    """The library that splits text."""
    settings: TokenizerSettings
    """Special tokens and stop tokens according to the checkpoint's files."""
    origin: str
    """Folder that the tokenizer came from, for error messages."""
    outside: Mapping[str, int] = field(default_factory=dict)
    """Ids of special tokens past the end of the model's embedding, by text. They are not in `special_ids`, are never
    sampled, and are an error in trusted text."""
    _bytes: dict[int, bytes] = field(default_factory=dict, repr=False, compare=False)

    @property
    def vocab_size(self) -> int:
        """Number of ids with an embedding row. The embedding may have more rows, padded for speed."""
        rows = self.settings.embedding_rows
        return self.backend.size if rows is None else min(self.backend.size, rows)

    @cached_property
    def bos_id(self) -> int | None:
        """The BOS id; None for a model without BOS (Qwen)."""
        return self._role("bos_token")

    @cached_property
    def eos_id(self) -> int | None:
        """The EOS id, which ends a document; None if the checkpoint names none."""
        return self._role("eos_token")

    @cached_property
    def pad_id(self) -> int | None:
        """The padding id, or None. It may equal a stop token's id, so it does not identify padding."""
        return self._role("pad_token")

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Stop token ids, from generation_config.json, else config.json, else the EOS token."""
        if self.settings.stop_ids is not None:
            return self.settings.stop_ids
        return frozenset() if self.eos_id is None else frozenset({self.eos_id})

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids of special tokens, which user text never encodes and `decode` omits."""
        return frozenset(mark.id for mark in self.backend.marks.values()) - frozenset(self.outside.values())

    @cached_property
    def reserved_ids(self) -> frozenset[int]:
        """Ids that the vocabulary keeps free, by their names or without one; files rarely mark them as special.

        A stop token is none of them: a finetuned model may end its turns with a reserved token.
        """
        # One by one, because a library takes twice as long to make a dictionary of them.
        return reserved_ids(map(self.backend.token_of, range(self.vocab_size))) - self.stop_ids

    def nameless_ids(self, rows: int) -> frozenset[int]:
        """Of an embedding with `rows` rows: the reserved ids, and the rows after the vocabulary, without a token."""
        return self.reserved_ids | frozenset(range(self.vocab_size, rows))

    @cached_property
    def adds_bos(self) -> bool:
        """Whether every text for this model begins with BOS."""
        if self.bos_id is None:
            return False
        for setting in (self.settings.adds_bos, self.backend.adds_bos):
            if setting is not None:
                return setting
        return True

    def encode(self, text: str) -> list[int]:
        """Encode user text, without BOS; `<|eot_id|>` inside it is ordinary text."""
        return self.backend.encode(replace_surrogates(text), at_start=True).ids

    def encode_batch(self, texts: Sequence[str], *, at_start: bool = True) -> list[TokenIds]:
        """`encode` of each text, on all cores. `at_start=False`: the texts continue others, so none gets a space."""
        return self.backend.encode_batch([replace_surrogates(text) for text in texts], at_start=at_start)

    def encode_prompt(self, text: str) -> list[int]:
        """Encode a text for the model to continue, with a leading BOS if the model uses one."""
        return [*self._bos, *self.encode(text)]

    def encode_with_specials(self, text: str) -> list[int]:
        """Encode trusted text, in which names of special tokens become these tokens; adds no BOS."""
        return self.encode_pieces([Piece(text=text, owner=TEMPLATE)]).ids

    def encode_pieces(self, pieces: Iterable[Piece]) -> EncodedChat:
        """Encode template text and message contents as one chat, with special tokens only from the template.

        Raises UserError if the template contains a token without an embedding row."""
        chat = encode_pieces(self.backend, self.specials, pieces)
        for name, index in self.outside.items():
            if index in chat.ids:
                raise UserError(
                    f"the text contains {name}, id {index}, but the model's embedding has only "
                    f"{self.settings.embedding_rows:,} rows",
                    self.origin,
                    f"remove {name} from the chat template, or use the weights that belong to this tokenizer",
                )
        return chat

    def with_one_bos(self, chat: EncodedChat) -> EncodedChat:
        """The chat with exactly one leading BOS; with none if this model adds none and the chat has none."""
        if self.bos_id is None:
            return chat
        count = 0
        while count < len(chat.ids) and chat.ids[count] == self.bos_id:
            count += 1
        leading = 1 if count or self.adds_bos else 0
        return EncodedChat(
            ids=[self.bos_id] * leading + chat.ids[count:],
            owner=[TEMPLATE] * leading + chat.owner[count:],
        )

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """The text of `ids`. Invalid UTF-8 becomes U+FFFD; ids beyond the vocabulary have no text."""
        shown = [index for index in ids if not (skip_special and index in self.special_ids)]
        if self.backend.token_bytes is None:
            return self.backend.decode(shown)
        text = b"".join(self.bytes_of(index) for index in shown)
        if self.backend.token_bytes.drops_first_space:
            text = text.removeprefix(b" ")
        return text.decode("utf-8", errors="replace")

    def bytes_of(self, token_id: int) -> bytes:
        """The bytes of one token; only for a backend whose `token_bytes` is known."""
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
        """The id of a token, as spelled in the vocabulary, or None."""
        return self.backend.id_of(token)

    def token_of(self, token_id: int) -> str | None:
        """The token with this id, as spelled in the vocabulary, or None."""
        return self.backend.token_of(token_id)

    @cached_property
    def specials(self) -> Pattern[str] | None:
        """Pattern that matches special tokens in text; None if the vocabulary has none."""
        return specials_pattern(self.backend.marks)

    @cached_property
    def digest(self) -> str:
        """Digest of everything that a document's tokens depend on: the text's ids, BOS and EOS."""
        return hashlib.sha256(f"{self.backend.digest} {self._bos} {self.eos_id}".encode()).hexdigest()[:16]

    @property
    def _bos(self) -> list[int]:
        return [self.bos_id] if self.adds_bos and self.bos_id is not None else []

    def _role(self, role: str) -> int | None:
        text = self.settings.roles.get(role)
        return None if text is None or text in self.outside else self.backend.id_of(text)


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """Load the tokenizer of a Hugging Face folder: tokenizer.json, else tokenizer.model.

    Raises UserError if there is none or a file is damaged.
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
        raise _without_tokenizer(folder)
    return _within_embedding(Tokenizer(backend=backend, settings=settings, origin=str(folder)))


_OTHER_FILES = ("vocab.json", "merges.txt", "vocab.txt", "tekken.json", "*.tiktoken")
"""Tokenizers in forms that are not read."""


def _without_tokenizer(folder: Path) -> UserError:
    """The error for a folder without a tokenizer that is read, by what it has instead."""
    if not folder.is_dir():
        return UserError("no such folder", str(folder), "check the path")
    others = [path.name for pattern in _OTHER_FILES for path in sorted(folder.glob(pattern))]
    what, fix = "no tokenizer: neither tokenizer.json nor tokenizer.model", "name a folder with a complete checkpoint"
    if others:
        what += f", only {' and '.join(others)}"
        fix = "let transformers write tokenizer.json: AutoTokenizer.from_pretrained(…).save_pretrained(…)"
    return UserError(what, str(folder), fix)


def _within_embedding(tokenizer: Tokenizer) -> Tokenizer:
    """Check every id against the model's embedding once: MLX reads and writes past an array's end without an error.

    Unused special tokens without a row are disabled with a warning, such as Gemma 3's `<image_soft_token>`, id 262144
    of 262,144 rows. Raises UserError if a stop token, BOS or an ordinary token has no row.
    """
    rows, backend = tokenizer.settings.embedding_rows, tokenizer.backend
    if rows is None:
        return tokenizer
    tokens = {index: backend.token_of(index) for index in range(rows, backend.size)}
    outside = {token: index for index, token in tokens.items() if token is not None}
    special = {name: mark.id for name, mark in backend.marks.items() if mark.id >= rows}
    problems = [f"stop token {index}" for index in sorted(tokenizer.stop_ids) if index >= rows]
    if tokenizer.bos_id is not None and tokenizer.bos_id >= rows:
        problems.append(f"BOS {tokenizer.settings.roles['bos_token']!r}, id {tokenizer.bos_id}")
    ordinary = [(index, token) for token, index in outside.items() if token not in special]
    problems += [f"ordinary token {token!r}, id {index}" for index, token in ordinary[:5]]
    if len(ordinary) > 5:
        problems.append(f"and {len(ordinary) - 5:,} more ordinary tokens")
    if problems:
        raise UserError(
            f"the tokenizer has ids beyond the model's embedding of {rows:,} rows",
            tokenizer.origin,
            "use the tokenizer and the weights of the same checkpoint",
            details=problems,
        )
    if special:
        names = ", ".join(f"{name} ({index})" for name, index in special.items())
        warn_once(f"{tokenizer.origin}: tokens beyond the embedding's {rows:,} rows are not used: {names}")
    return replace(tokenizer, outside=special)
