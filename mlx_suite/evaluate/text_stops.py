"""Writing until a text turns up, which may begin and end within tokens."""

from collections.abc import Sequence

from mlx_suite.engine import Given, Program, Sample, Sampling
from mlx_suite.text import Tokenizer

STRETCH = 16
"""Tokens that are written between two looks at the text: at most so many are written for nothing, and each look costs
one step."""


def write_until(
    tokenizer: Tokenizer,
    prompt: Sequence[int],
    texts: Sequence[str],
    *,
    limit: int,
    stop: frozenset[int],
    sampling: Sampling,
) -> Program:
    """Continue `prompt` up to the first of `texts`, a stop token or `limit` tokens; results in the text before it."""
    texts = [text for text in texts if text]
    yield Given(tuple(prompt))
    tokens: list[int] = []
    while True:
        room = limit - len(tokens)
        written = yield Sample(limit=min(room, STRETCH) if texts else room, stop=stop, sampling=sampling)
        tokens += written.tokens
        text = tokenizer.decode(tokens)
        ended = written.reason != "limit" or len(tokens) >= limit
        if ended or any(each in text for each in texts):
            return cut_before(text, texts)


def cut_before(text: str, texts: Sequence[str]) -> str:
    """`text` up to where the first of `texts` begins in it."""
    places = [text.find(each) for each in texts if each and each in text]
    return text[: min(places)] if places else text
