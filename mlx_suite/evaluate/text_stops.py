"""Generation up to a stop text, which may begin and end inside tokens."""

from collections.abc import Sequence

from mlx_suite.engine import Given, Program, Sample, Sampling
from mlx_suite.text import Tokenizer

STRETCH = 16
"""Tokens generated between two searches for a stop text: at most this many are wasted; each search costs one step."""


def write_until(
    tokenizer: Tokenizer,
    prompt: Sequence[int],
    texts: Sequence[str],
    *,
    limit: int,
    stop: frozenset[int],
    sampling: Sampling,
) -> Program:
    """Continue `prompt` up to the first of `texts`, a stop token or `limit` tokens; returns the text before it."""
    texts = [text for text in texts if text]
    yield Given(tuple(prompt))
    tokens: list[int] = []
    while True:
        left = limit - len(tokens)
        written = yield Sample(limit=min(left, STRETCH) if texts else left, stop=stop, sampling=sampling)
        tokens += written.tokens
        text = tokenizer.decode(tokens)
        ended = written.reason != "limit" or len(tokens) >= limit
        if ended or any(each in text for each in texts):
            return cut_before(text, texts)


def cut_before(text: str, texts: Sequence[str]) -> str:
    """`text` before the earliest occurrence of any of `texts`."""
    places = [text.find(each) for each in texts if each and each in text]
    return text[: min(places)] if places else text
