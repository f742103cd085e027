"""Bytes of a token, the basis of decoding and streaming.

Nearly every language model uses one of two spellings. Byte-level BPE (GPT-2, Llama 3, Qwen) writes each byte as one
printable character; SentencePiece (Gemma, Mistral, Llama 2) writes a space as `▁` and a byte without a piece as
`<0x0A>`. With the bytes of each token, text is a UTF-8 stream, and an incomplete character is easy to hold back.

Source: GPT-2's byte alphabet (openai/gpt-2, encoder.py) and the decoders of the `tokenizers` library.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

SPACE_MARK = "▁"
BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")


def _byte_of_letter() -> dict[str, int]:
    """GPT-2's alphabet: printable Latin-1 bytes map to themselves, the others to U+0100 and up."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return {
        **{chr(byte): byte for byte in printable},
        **{chr(0x100 + place): byte for place, byte in enumerate(hidden)},
    }


BYTE_OF_LETTER = _byte_of_letter()


@dataclass(frozen=True, kw_only=True)
class TokenBytes:
    """Spelling of the tokens of one vocabulary."""

    spelling: Literal["byte_level", "sentencepiece"]
    """Alphabet that the tokens are written in."""
    byte_pieces: bool
    """Whether `<0x0A>` means a byte (SentencePiece with byte fallback)."""
    drops_first_space: bool
    """Whether decoding removes the single space that encoding put in front of a text."""

    def of(self, token: str, *, added: bool) -> bytes:
        """The bytes of `token`; an added token (special, or beyond the model's vocabulary) is plain text."""
        if self.spelling == "byte_level":
            if not added and all(letter in BYTE_OF_LETTER for letter in token):
                return bytes(BYTE_OF_LETTER[letter] for letter in token)
            return token.encode()
        if self.byte_pieces and (match := BYTE_PIECE.fullmatch(token)):
            return bytes([int(match[1], 16)])
        return token.replace(SPACE_MARK, " ").encode()


def token_bytes_of(decoder: Mapping[str, Any] | None) -> TokenBytes | None:
    """Read the spelling from the `decoder` part of a tokenizer.json; None if it uses neither spelling."""
    steps = _flat(decoder)
    names = [step.get("type") for step in steps]
    if names == ["ByteLevel"]:
        return TokenBytes(spelling="byte_level", byte_pieces=False, drops_first_space=False)
    drops_first_space = False
    spells_spaces = False
    for step in steps:
        match step:
            case {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}:
                spells_spaces = True
            case {"type": "Metaspace", "replacement": "▁"}:
                spells_spaces = True
                drops_first_space = step.get("prepend_scheme", "always") != "never"
            case {"type": "Strip", "content": " ", "start": int(start), "stop": 0} if start <= 1:
                drops_first_space = drops_first_space or start == 1
            case {"type": "ByteFallback" | "Fuse"}:
                pass
            case _:
                return None
    if not spells_spaces:
        return None
    return TokenBytes(
        spelling="sentencepiece",
        byte_pieces="ByteFallback" in names,
        drops_first_space=drops_first_space,
    )


def _flat(decoder: Mapping[str, Any] | None) -> Sequence[Mapping[str, Any]]:
    """The steps of a decoder, with nested sequences flattened."""
    if decoder is None:
        return []
    if decoder.get("type") == "Sequence":
        return [step for inner in decoder["decoders"] for step in _flat(inner)]
    return [decoder]
