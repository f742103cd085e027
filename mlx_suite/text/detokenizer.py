"""Text from tokens as they come, never half a character.

A character may be spread over several tokens (an emoji over four bytes). Where a vocabulary's
spelling is known, the bytes run through Python's incremental UTF-8 decoder, which keeps an
unfinished character back and costs the same for every token. For other vocabularies the text is
decoded anew, and shown as far as it has settled.
"""

import codecs

from mlx_suite.text.tokenizer import Tokenizer

UNFINISHED = "\ufffd"
"""What a decoder writes in place of an incomplete character."""


class StreamingDetokenizer:
    """Turns one growing list of ids into text, piece by piece.

    All that `add` and the last `finish` return, put together, is `tokenizer.decode` of all ids.
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
        """Take one more token; returns the text that has become certain, often one word, sometimes
        nothing."""
        if not self._knows_bytes:
            return self._decode_anew(token_id)
        if token_id in self._hidden:
            return ""
        written = self._tokenizer.bytes_of(token_id)
        if self._drops_space and written:
            written = written.removeprefix(b" ")
            self._drops_space = False
        return self._decoder.decode(written)

    def finish(self) -> str:
        """End the text: returns what was kept back, with U+FFFD for a character that never came to
        its end."""
        if self._knows_bytes:
            return self._decoder.decode(b"", final=True)
        return self._settle(self._tokenizer.decode(self._ids, self._skip_special), final=True)

    def _decode_anew(self, token_id: int) -> str:
        self._ids.append(token_id)
        return self._settle(self._tokenizer.decode(self._ids, self._skip_special), final=False)

    def _settle(self, text: str, *, final: bool) -> str:
        """The part of `text` beyond what was shown, unless its end may still change."""
        if not text.startswith(self._shown) or (text.endswith(UNFINISHED) and not final):
            return ""
        fresh = text[len(self._shown) :]
        self._shown = text
        return fresh
