"""Check of a GGUF file against its model: tokens, logits and next tokens.

llama.cpp gives log-probabilities of the next token: logits but for one number per position, which changes nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mlx_suite.export.gguf_tensors import usable_context
from mlx_suite.export.llama_cpp import LlamaCpp, open_llama
from mlx_suite.gguf.file import open_gguf
from mlx_suite.text.chat import encode_chat
from mlx_suite.text.message import ASSISTANT, USER, Message
from mlx_suite.text.template import ChatTemplate
from mlx_suite.text.tokenizer import Tokenizer

TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "  two spaces, a\ttab,\n\na blank line and a trailing space ",
    "It's 12,345.678 or 1/3; isn't it? I'LL see: [1, 2] {a: 'b'} <c>",
    "def f(x):\n    return x ** 2  # comment\n\n\nprint(f(3))",
    "Übergröße, naïve café, Ελληνικά, русский, 日本語のテキスト, 한국어, हिन्दी",
    "🦙 emoji 👩‍👩‍👧‍👦, zero\u200bwidth, ﬁ ligature, e\u0301 combined",
)
"""Texts on which tokenizers often differ."""
CONVERSATION = (
    Message(USER, "What is the capital of France?"),
    Message(ASSISTANT, "Paris."),
    Message(USER, "Name three things to see there, and say in one sentence why."),
)
LEAST_AGREEMENT = 0.9
"""Minimum fraction of positions with the same most probable token: 8-bit weights change a few close ones."""
MOST_TOKENS = 256
"""Maximum length of the prompt."""
MOST_POSITIONS = 32
"""Maximum number of its positions whose log-probabilities are compared."""
MOST_LISTED = 2048
"""Tokens compared at each position: the most probable ones."""


@dataclass(frozen=True, kw_only=True)
class GGUFCheck:
    """Difference between llama.cpp and the model."""

    positions: int
    """Number of positions whose log-probabilities were compared."""
    largest_difference: float
    """Largest absolute difference of two log-probabilities."""
    typical_logit: float
    """Root mean square of the model's logits minus each position's mean: the scale for `largest_difference`."""
    agreement: float
    """Fraction of positions with the same most probable token."""
    texts: int
    """Number of texts tokenized by both, including the rendered conversation."""
    other_tokens: tuple[str, ...]
    """Texts that llama.cpp tokenizes differently."""

    @property
    def passed(self) -> bool:
        """Whether all texts have the same tokens, and nearly all positions the same most probable token."""
        return not self.other_tokens and self.agreement >= LEAST_AGREEMENT


def check_gguf(path: Path | str, model: nn.Module, tokenizer: Tokenizer, template: ChatTemplate | None) -> GGUFCheck:
    """Load `path` with llama.cpp and compare it with the model it was made from.

    Raises UserError if xllamacpp is not installed or llama.cpp cannot load the file.
    """
    prompt = _prompt(tokenizer, template)[: min(MOST_TOKENS, usable_context(model.config) - 1)]  # one token is written
    ends = spread_over(len(prompt), MOST_POSITIONS)
    logits = np.array(model(mx.array([prompt]))[0].astype(mx.float32))[ends]
    ours = log_softmax(logits)
    # If only a space before the first text is missing from the file, compare texts as after a special token.
    at_start = bool(open_gguf(Path(path)).metadata.get("tokenizer.ggml.add_space_prefix", True))
    with open_llama(path, context=len(prompt)) as llama:
        cuts = _cuts(llama, tokenizer, template, at_start)
        other = [text for text, our_ids, their_ids in cuts if our_ids != their_ids]
        tokens, theirs = llama.log_probs(prompt, ends, min(MOST_LISTED, ours.shape[-1]))
    spread = logits - logits.mean(axis=-1, keepdims=True)
    return GGUFCheck(
        positions=len(ends),
        largest_difference=float(np.abs(np.take_along_axis(ours, tokens, axis=-1) - theirs).max()),
        typical_logit=float(np.sqrt(np.square(spread).mean())),
        agreement=float((ours.argmax(axis=-1) == tokens[:, 0]).mean()),
        texts=len(TEXTS) + (template is not None),
        other_tokens=tuple(other),
    )


def spread_over(length: int, most: int) -> list[int]:
    """At most `most` positions of a text, evenly spaced, the first and the last among them."""
    return sorted({round(place) for place in np.linspace(0, length - 1, min(length, most))})


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities of logits (…, V)."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    found: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return found


def llama_chat(llama: LlamaCpp, tokenizer: Tokenizer, rendered: str) -> list[int]:
    """llama.cpp's tokens of a rendered conversation, with the BOS that it adds."""
    if tokenizer.adds_bos:
        rendered = rendered.removeprefix(tokenizer.settings.roles.get("bos_token", ""))
    return llama.tokenize(rendered, adds_bos=tokenizer.adds_bos, special=True)


def _prompt(tokenizer: Tokenizer, template: ChatTemplate | None) -> list[int]:
    if template is None:
        return tokenizer.encode_prompt("\n".join(TEXTS))
    return encode_chat(tokenizer, template, CONVERSATION, add_generation_prompt=True).ids


def _cuts(
    llama: LlamaCpp, tokenizer: Tokenizer, template: ChatTemplate | None, at_start: bool
) -> Iterator[tuple[str, list[int], list[int]]]:
    """Yield each text with our tokens and llama.cpp's."""
    for text in TEXTS:
        ours = tokenizer.backend.encode(text, at_start=at_start).ids
        yield text, ours, llama.tokenize(text)
    if template is not None:
        rendered = template.render(CONVERSATION, add_generation_prompt=True)
        ours = encode_chat(tokenizer, template, CONVERSATION, add_generation_prompt=True).ids
        yield rendered, ours, llama_chat(llama, tokenizer, rendered)
