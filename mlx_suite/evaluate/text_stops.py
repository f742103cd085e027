"""Generation up to a stop text, which may begin and end inside tokens."""

from collections.abc import Sequence

from mlx_suite.engine import Given, Program, Sample, Sampling, Written
from mlx_suite.text import StreamingDetokenizer, Tokenizer


def write_until(
    tokenizer: Tokenizer,
    prompt: Sequence[int],
    texts: Sequence[str],
    *,
    limit: int,
    stop: frozenset[int],
    sampling: Sampling,
) -> Program:
    """Continue `prompt` up to the first of `texts`, a stop token or `limit` tokens.

    Returns the text before it, and the reason why it ended.
    """
    texts = [text for text in texts if text]
    yield Given(tuple(prompt))
    if not texts:
        written: Written = yield Sample(limit=limit, stop=stop, sampling=sampling)
        return tokenizer.decode(written.tokens), written.reason
    detokenizer, text = StreamingDetokenizer(tokenizer), ""

    def completes_a_stop_text(token: int) -> bool:
        nonlocal text
        text += detokenizer.add(token)
        return any(each in text for each in texts)

    written = yield Sample(limit=limit, stop=stop, sampling=sampling, until=completes_a_stop_text)
    return cut_before(text + detokenizer.finish(), texts), written.reason


def cut_before(text: str, texts: Sequence[str]) -> str:
    """`text` before the earliest occurrence of any of `texts`."""
    places = [text.find(each) for each in texts if each and each in text]
    return text[: min(places)] if places else text
