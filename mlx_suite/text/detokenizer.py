"""Streaming detokenization that never emits half a character.

A character may be spread over several tokens (an emoji over four bytes). If the vocabulary's byte spelling is known,
the bytes go through Python's incremental UTF-8 decoder, which holds back an incomplete character and takes constant
time per token. For other vocabularies all ids are decoded again for each token, and text is emitted once it is final.
"""

import codecs

from mlx_suite.text.tokenizer import Tokenizer

UNFINISHED = "\ufffd"
"""Replacement character that a decoder writes for an incomplete character."""


class StreamingDetokenizer:
    """Decodes one growing list of ids piece by piece.

    The results of all `add` calls and of the final `finish`, joined, equal `tokenizer.decode` of all ids.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool = True) -> None:
        """`skip_special=False` shows special tokens by name."""
        self._tokenizer = tokenizer
        self._hidden = tokenizer.special_ids if skip_special else frozenset()
        self._skip_special = skip_special
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        spelling = tokenizer.backend.token_bytes
        self._knows_bytes = spelling is not None
        self._drops_space = spelling is not None and spelling.drops_first_space
        self._ids: list[int] = []
        self._shown = ""

    def add(self, token_id: int) -> str:
        """Append a token and return the text that is now final: often one word, sometimes nothing."""
        if not self._knows_bytes:
            return self._decode_all(token_id)
        if token_id in self._hidden:
            return ""
        written = self._tokenizer.bytes_of(token_id)
        if self._drops_space and written:
            written = written.removeprefix(b" ")
            self._drops_space = False
        return self._decoder.decode(written)

    def finish(self) -> str:
        """End the text and return what was held back, with U+FFFD for an incomplete character."""
        if self._knows_bytes:
            return self._decoder.decode(b"", final=True)
        return self._settle(self._tokenizer.decode(self._ids, self._skip_special), final=True)

    def _decode_all(self, token_id: int) -> str:
        self._ids.append(token_id)
        return self._settle(self._tokenizer.decode(self._ids, self._skip_special), final=False)

    def _settle(self, text: str, *, final: bool) -> str:
        """The part of `text` not emitted yet; empty while its end may still change."""
        if not text.startswith(self._shown) or (text.endswith(UNFINISHED) and not final):
            return ""
        fresh = text[len(self._shown) :]
        self._shown = text
        return fresh
