"""The tokens of a stored response, each with its probability and its alternatives.

They are scored afterwards, so ordinary chats pay nothing for it. A token that the model wrote at a high temperature
also has its probability at temperature 1 here: it is the model's own.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_suite.engine import TokenScore
from mlx_suite.engine.chat_model import ChatModel
from mlx_suite.engine.response_scores import ResponseScores
from mlx_suite.serving.service import Service
from mlx_suite.text import Tokenizer
from mlx_suite.text.pieces import replace_surrogates

from .forms import IDS

ALTERNATIVES = 10
MOST_TOKENS = 2000
"""Tokens that are scored; a page with more of them would be slow."""


@dataclass(frozen=True, kw_only=True)
class ResponseTokens:
    """The tokens of a response."""

    ids: tuple[int, ...]
    is_exact: bool
    """Whether they are the ids that were generated, and not the text encoded again."""


def response_tokens(tokenizer: Tokenizer, content: str, facts: Mapping[str, Any]) -> ResponseTokens:
    """The tokens of a response with this content: those in its facts, if they still are its text."""
    stored = facts.get(IDS)
    if isinstance(stored, list) and stored and all(_is_token(tokenizer, each) for each in stored):
        if tokenizer.decode(stored).strip() == content.strip():
            return ResponseTokens(ids=tuple(stored), is_exact=True)
    return ResponseTokens(
        ids=tuple(tokenizer.backend.encode(replace_surrogates(content), at_start=False).ids), is_exact=False
    )


async def score_response(
    service: Service, model: str, prompt: Sequence[int], tokens: Sequence[int]
) -> Sequence[TokenScore]:
    """Scores of the tokens after a prompt; between two chunks, the service works for others.

    Raises UnknownModel, and UserError if the model returns NaN or inf.
    """

    def begin(chat: ChatModel) -> ResponseScores:
        return ResponseScores(chat.model, prompt, tokens, alternatives=ALTERNATIVES)

    scores = await service.call(model, begin)
    while await service.call(model, lambda chat: scores.step()):
        pass
    return scores.found


def token_forms(tokenizer: Tokenizer, tokens: Sequence[int], scores: Sequence[TokenScore]) -> list[dict[str, Any]]:
    """The tokens as the page gets them."""
    return [
        {
            "id": token,
            "text": token_text(tokenizer, token),
            "probability": _probability(score.log_prob),
            "alternatives": [
                {"id": other, "text": token_text(tokenizer, other), "probability": _probability(log_prob)}
                for other, log_prob in score.alternatives
            ],
        }
        for token, score in zip(tokens, scores, strict=True)
    ]


def token_text(tokenizer: Tokenizer, token: int) -> str:
    """Text of one token: special ones by name, U+FFFD for part of a character."""
    name = tokenizer.token_of(token)
    if name is None or token in tokenizer.special_ids:
        return name or ""
    if tokenizer.backend.token_bytes is None:
        return tokenizer.decode([token])
    return tokenizer.bytes_of(token).decode("utf-8", errors="replace")


def _probability(log_prob: float) -> float:
    return round(math.exp(log_prob), 5)


def _is_token(tokenizer: Tokenizer, value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < tokenizer.vocab_size
