"""Check of a GGUF file against its model: tokens, logits and next tokens.

llama.cpp runs through llama-cpp-python, on the CPU, with its KV cache in fp32.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mlx_suite.export.gguf_tensors import usable_context
from mlx_suite.runtime.errors import UserError
from mlx_suite.text.chat import encode_chat
from mlx_suite.text.message import ASSISTANT, USER, Message
from mlx_suite.text.template import ChatTemplate
from mlx_suite.text.tokenizer import Tokenizer

LLAMA_CPP = "pip install llama-cpp-python"

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
"""Maximum number of positions whose logits are compared."""


@dataclass(frozen=True, kw_only=True)
class GGUFCheck:
    """Difference between llama.cpp and the model."""

    positions: int
    """Number of positions whose logits were compared."""
    largest_difference: float
    """Largest absolute difference of two logits."""
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

    Raises UserError if llama-cpp-python is not installed or cannot load the file.
    """
    prompt = _prompt(tokenizer, template)[: min(MOST_TOKENS, usable_context(model.config))]
    with open_llama(path, context=len(prompt)) as llama:
        other = [text for text, ours, theirs in _cuts(llama, tokenizer, template) if ours != theirs]
        theirs = llama_logits(llama, prompt)
    ours = np.array(model(mx.array([prompt]))[0].astype(mx.float32))
    spread = ours - ours.mean(axis=-1, keepdims=True)
    return GGUFCheck(
        positions=len(prompt),
        largest_difference=float(np.abs(ours - theirs).max()),
        typical_logit=float(np.sqrt(np.square(spread).mean())),
        agreement=float((ours.argmax(axis=-1) == theirs.argmax(axis=-1)).mean()),
        texts=len(TEXTS) + (template is not None),
        other_tokens=tuple(other),
    )


def import_llama_cpp() -> Any:
    """Import `llama_cpp`. Raises UserError if it is not installed."""
    try:
        return import_module("llama_cpp")
    except ImportError as error:
        raise UserError(
            "the check runs llama.cpp through llama-cpp-python, which is not installed",
            fix=f"{LLAMA_CPP} (it is compiled, which takes a while), or omit the check",
        ) from error


def open_llama(path: Path | str, *, context: int) -> Any:
    """Context manager of a `llama_cpp.Llama` that keeps the logits of every position.

    Raises UserError if llama-cpp-python is not installed or cannot load the file.
    """
    llama_cpp = import_llama_cpp()
    fp32 = 0  # GGML_TYPE_F32
    try:
        llama = llama_cpp.Llama(
            str(path),
            n_ctx=context,
            n_batch=context,
            n_ubatch=context,
            n_gpu_layers=0,
            logits_all=True,
            swa_full=False,
            type_k=fp32,
            type_v=fp32,
            verbose=False,
        )
    except ValueError as error:
        raise UserError(f"llama.cpp cannot load the file: {error}", str(path), "export it again") from error
    return closing(llama)


def llama_logits(llama: Any, ids: Sequence[int]) -> np.ndarray:
    """Logits (L, V) of all positions, in fp32."""
    llama.reset()
    llama.eval(list(ids))
    return np.array(llama.scores[: len(ids)], dtype=np.float32)


def llama_chat(llama: Any, tokenizer: Tokenizer, rendered: str) -> list[int]:
    """llama.cpp's tokens of a rendered conversation, with the BOS that it adds."""
    if tokenizer.adds_bos:
        rendered = rendered.removeprefix(tokenizer.settings.roles.get("bos_token", ""))
    return list(llama.tokenize(rendered.encode(), add_bos=tokenizer.adds_bos, special=True))


def _prompt(tokenizer: Tokenizer, template: ChatTemplate | None) -> list[int]:
    if template is None:
        return tokenizer.encode_prompt("\n".join(TEXTS))
    return encode_chat(tokenizer, template, CONVERSATION, add_generation_prompt=True).ids


def _cuts(
    llama: Any, tokenizer: Tokenizer, template: ChatTemplate | None
) -> Iterator[tuple[str, list[int], list[int]]]:
    """Yield each text with our tokens and llama.cpp's."""
    # If only a space before the first text is missing from the file, compare texts as after a special token.
    at_start = llama.metadata.get("tokenizer.ggml.add_space_prefix") != "false"
    for text in TEXTS:
        ours = tokenizer.backend.encode(text, at_start=at_start).ids
        yield text, ours, list(llama.tokenize(text.encode(), add_bos=False, special=False))
    if template is not None:
        rendered = template.render(CONVERSATION, add_generation_prompt=True)
        ours = encode_chat(tokenizer, template, CONVERSATION, add_generation_prompt=True).ids
        yield rendered, ours, llama_chat(llama, tokenizer, rendered)
