"""Backend for `tokenizer.json`, using the `tokenizers` library."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.json_file import OBJECT, OBJECTS, TEXT, WHOLE, Kind, read_object
from mlx_suite.text.backend import CONTROL_SHAPE, PlainEncoding, SpecialToken, TokenIds
from mlx_suite.text.token_bytes import TokenBytes, token_bytes_of
from mlx_suite.text.word_cache import WordCache, encode_whole, make_word_cache

_LISTED = Kind(
    name="a list of tokens with id and content",
    holds=lambda value: (
        OBJECTS.holds(value)
        and all(WHOLE.holds(token.get("id")) and TEXT.holds(token.get("content")) for token in value)
    ),
)
_MODEL = Kind(
    name="an object with a vocab",
    holds=lambda value: OBJECT.holds(value) and isinstance(value.get("vocab"), dict | list),
)
TOKENIZER_JSON_KEYS = {
    "added_tokens": _LISTED,
    "model": _MODEL,
    **dict.fromkeys(("normalizer", "pre_tokenizer", "post_processor", "decoder", "truncation", "padding"), OBJECT),
}
"""Keys of tokenizer.json, and what they must be."""
_PROBE = "aA 1\n\u00e9\u4e2d\U0001f600"


class FastBackend:
    """A tokenizer.json, configured so that text never becomes a special token.

    By default the library matches special tokens inside any text. This is turned off here; template text is cut at its
    special tokens beforehand. Safe to share between threads.
    """

    def __init__(self, library: Tokenizer, control: Collection[str] = (), stop_ids: Collection[int] = ()) -> None:
        """`control` and `stop_ids`: tokens that are special even if the file does not mark them so."""
        for index, token in library.get_added_tokens_decoder().items():
            if not token.special and (token.content in control or index in stop_ids):
                library.add_special_tokens([_as_special(token)])
        library.no_truncation()
        library.no_padding()
        library.encode_special_tokens = False
        first = library.encode("").ids[:1]
        self._first_id = first[0] if first else None
        library.encode_special_tokens = True
        library.post_processor = None
        self._library = library
        self._added = library.get_added_tokens_decoder()
        self._marks = {
            token.content: SpecialToken(id=index, eats_left=token.lstrip, eats_right=token.rstrip)
            for index, token in self._added.items()
            if token.special
        }
        for name in control:
            unmarked = name not in self._marks and CONTROL_SHAPE.fullmatch(name)
            if unmarked and (known := library.token_to_id(name)) is not None:
                self._marks[name] = SpecialToken(id=known)
        self._size = max(library.get_vocab_size(), 1 + max(self._added, default=-1))
        self._token_bytes = token_bytes_of(_state(library.decoder))

    @classmethod
    def load(cls, path: Path, control: Collection[str] = (), stop_ids: Collection[int] = ()) -> "FastBackend":
        """Read a tokenizer.json. Raises UserError if it is damaged."""
        try:
            backend = cls(Tokenizer.from_file(str(path)), control, stop_ids)
            backend.encode(_PROBE, at_start=True)  # a vocabulary may lack what its settings name
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the library raises bare Exception, and panics, which are no Exception
            # It says little of what is wrong. The file, which may have 30 MB, is parsed again only here.
            read_object(path, TOKENIZER_JSON_KEYS)
            raise UserError(
                f"tokenizer.json cannot be read: {str(error).strip() or type(error).__name__}",
                str(path),
                "take the file from the original model, or update the tokenizers package if the file is newer",
            ) from error
        return backend

    @property
    def size(self) -> int:
        """Number of ids."""
        return self._size

    @property
    def marks(self) -> Mapping[str, SpecialToken]:
        """The special tokens by their text."""
        return self._marks

    @property
    def token_bytes(self) -> TokenBytes | None:
        """Spelling of tokens as bytes, from the file's decoder; None if the decoder is of another kind."""
        return self._token_bytes

    @property
    def adds_bos(self) -> bool | None:
        """Whether the file's post-processor puts a special token in front of an empty text."""
        return self._first_id is not None and any(mark.id == self._first_id for mark in self._marks.values())

    def encode(self, text: str, *, at_start: bool) -> PlainEncoding:
        """Encode text; `at_start=False` omits the space that only the first text of a sequence gets."""
        library = self._library if at_start else self._inside
        encoding = library.encode(text, add_special_tokens=False)
        return PlainEncoding(ids=encoding.ids, spans=encoding.offsets)

    def encode_batch(self, texts: Sequence[str], *, at_start: bool) -> list[TokenIds]:
        """The ids of `encode` for each text, on all cores."""
        if self._words is not None:
            return self._words.encode(texts, at_start=at_start)
        return encode_whole(texts, self._library if at_start else self._inside)

    @cached_property
    def digest(self) -> str:
        """Digest of everything that `encode` depends on, 64 hexadecimal digits."""
        parts = {name: self._state.get(name) for name in ("model", "normalizer", "pre_tokenizer", "added_tokens")}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def decode(self, ids: Sequence[int]) -> str:
        """Decode with the library, including special tokens."""
        return self._library.decode(list(ids), skip_special_tokens=False)

    def id_of(self, token: str) -> int | None:
        """The id of `token`, or None."""
        return self._library.token_to_id(token)

    def vocabulary(self) -> Mapping[str, int]:
        """Every token with its id."""
        return self._library.get_vocab(with_added_tokens=True)

    def token_of(self, token_id: int) -> str | None:
        """The token as spelled in the vocabulary, or None."""
        return self._library.id_to_token(token_id) if token_id >= 0 else None

    def is_added(self, token_id: int) -> bool:
        """Whether the token was added to the model's vocabulary."""
        return token_id in self._added

    @cached_property
    def _words(self) -> WordCache | None:
        return make_word_cache(self._state, self._library, self._inside)

    @property
    def _state(self) -> dict[str, Any]:
        """The JSON of the library's tokenizer, with the vocabulary."""
        state: dict[str, Any] = json.loads(self._library.to_str())
        return state

    @cached_property
    def _inside(self) -> Tokenizer:
        """The tokenizer for text after a special token, where Metaspace's `first` adds no space."""
        state = _state(self._library.pre_tokenizer)
        if state is None or '"prepend_scheme": "first"' not in json.dumps(state):
            return self._library
        config = json.loads(self._library.to_str())
        config["pre_tokenizer"] = _never_prepended(state)
        inside = Tokenizer.from_str(json.dumps(config, ensure_ascii=False))
        inside.encode_special_tokens = True
        return inside


def _as_special(token: AddedToken) -> AddedToken:
    return AddedToken(
        token.content,
        single_word=token.single_word,
        lstrip=token.lstrip,
        rstrip=token.rstrip,
        normalized=token.normalized,
        special=True,
    )


def _state(part: Any) -> dict[str, Any] | None:
    """The JSON of one part of a tokenizer, without the vocabulary."""
    return None if part is None else json.loads(part.__getstate__())


def _never_prepended(state: Any) -> Any:
    """A copy of the pre-tokenizer with `first` replaced by `never`."""
    if isinstance(state, dict):
        return {
            key: "never" if (key, value) == ("prepend_scheme", "first") else _never_prepended(value)
            for key, value in state.items()
        }
    if isinstance(state, list):
        return [_never_prepended(value) for value in state]
    return state
