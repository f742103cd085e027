"""Log-probabilities in the forms of OpenAI's chat and text completions."""

import codecs
from collections.abc import Iterable
from typing import Any

from mlx_suite.serving.generation import Token
from mlx_suite.text import Tokenizer

LOWEST = -9999.0
"""Stands for minus infinity, which JSON cannot write."""


def token_bytes(tokenizer: Tokenizer, index: int) -> bytes:
    """The bytes of a token: of half a character, half its bytes."""
    if tokenizer.backend.token_bytes is not None:
        return tokenizer.bytes_of(index)
    return tokenizer.decode([index], skip_special=False).encode()


def chat_logprobs(tokenizer: Tokenizer, tokens: Iterable[Token], alternatives: int) -> list[dict[str, Any]]:
    """An entry for each token. A token that a grammar forced has probability 1 and no alternatives."""
    entries = []
    for token in tokens:
        score = token.score
        entry = _entry(tokenizer, token.id, 0.0 if score is None else score.log_prob)
        others = () if score is None else score.alternatives[:alternatives]
        entries.append({**entry, "top_logprobs": [_entry(tokenizer, *other) for other in others]})
    return entries


def _entry(tokenizer: Tokenizer, index: int, log_prob: float) -> dict[str, Any]:
    written = token_bytes(tokenizer, index)
    return {"token": written.decode(errors="replace"), "logprob": max(log_prob, LOWEST), "bytes": list(written)}


def text_logprobs(tokenizer: Tokenizer, tokens: Iterable[Token], alternatives: int, offset: int) -> dict[str, Any]:
    """Parallel lists for a text completion; `offset` is the place of the first token in the choice's text."""
    lists: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for token in tokens:
        text, score = _name(tokenizer, token.id), token.score
        lists["tokens"].append(text)
        lists["token_logprobs"].append(0.0 if score is None else max(score.log_prob, LOWEST))
        others = () if score is None else score.alternatives[:alternatives]
        lists["top_logprobs"].append({_name(tokenizer, index): max(log_prob, LOWEST) for index, log_prob in others})
        lists["text_offset"].append(offset)
        offset += len(decoder.decode(token_bytes(tokenizer, token.id)))
    return lists


def _name(tokenizer: Tokenizer, index: int) -> str:
    """A token's text; for half a character its bytes, as `bytes:\\xe2\\x82`, so that alternatives stay apart."""
    written = token_bytes(tokenizer, index)
    try:
        return written.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in written)
