"""Texts to compute perplexity on: plain texts in full, conversations by their responses."""

from dataclasses import dataclass
from pathlib import Path

from mlx_suite.data.batch.rows import Document
from mlx_suite.data.dataset import chosen_part, read_dataset
from mlx_suite.data.encode.encoding import encode_all
from mlx_suite.data.encode.styles import CHAT
from mlx_suite.data.read.records import refusal
from mlx_suite.text import ChatTemplate, Tokenizer

TEXT, ANSWERS = "text", "answers"
"""Kinds of passages: plain texts with every token scored; conversations with responses and end tokens scored."""


@dataclass(frozen=True, kw_only=True)
class Passage:
    """One tokenised text and the tokens to score."""

    tokens: tuple[int, ...]
    """Token ids without BOS, which is prepended to every window."""
    scored: tuple[bool, ...]
    """True for each token to score."""
    size: int = 0
    """UTF-8 bytes of the scored text; 0 for conversations."""
    place: str = ""


@dataclass(frozen=True, kw_only=True)
class Passages:
    """The passages of a dataset part."""

    passages: tuple[Passage, ...]
    kind: str
    """TEXT or ANSWERS."""
    part: str
    """`test`, `valid` or `train`."""


def read_passages(
    source: str | Path,
    tokenizer: Tokenizer,
    template: ChatTemplate | None,
    *,
    style: str = CHAT,
    part: str | None = None,
    limit: int | None = None,
) -> Passages:
    """The first `limit` examples of a dataset's `part`: by default test, else valid, else train.

    Raises UserError for unreadable data, an empty part, or conversations that `style` cannot express.
    """
    chosen, examples = chosen_part(read_dataset(source), part, source)
    examples = examples[:limit]
    texts = [text_passage(tokenizer, example.text, example.place) for example in examples if example.text is not None]
    if len(texts) == len(examples):
        return Passages(passages=tuple(texts), kind=TEXT, part=chosen)
    encoded = encode_all(examples, style=style, tokenizer=tokenizer, template=template)
    if encoded.problems:
        raise refusal(encoded.problems, str(source))
    passages = tuple(chat_passage(tokenizer, document) for document in encoded.documents)
    return Passages(passages=passages, kind=ANSWERS, part=chosen)


def text_passage(tokenizer: Tokenizer, text: str, place: str = "") -> Passage:
    """A plain text with every token scored, the first only if the model prepends BOS."""
    tokens = tuple(tokenizer.encode(text))
    first = 0 if tokenizer.adds_bos else 1
    unscored = tokenizer.decode(tokens[:first]) if first else ""
    return Passage(
        tokens=tokens,
        scored=tuple(number >= first for number in range(len(tokens))),
        size=len(text.encode("utf-8", "replace")) - len(unscored.encode()),
        place=place,
    )


def chat_passage(tokenizer: Tokenizer, document: Document) -> Passage:
    """A conversation in which the tokens that training would weight are scored."""
    tokens, weights = tuple(document.tokens), tuple(document.weights)
    prefix = len(prefix_of(tokenizer))
    if tokens[:prefix] == prefix_of(tokenizer):
        tokens, weights = tokens[prefix:], weights[prefix:]
    return Passage(tokens=tokens, scored=tuple(weight > 0 for weight in weights), place=document.place)


def prefix_of(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Tokens prepended to every window: BOS if the model uses it."""
    return (tokenizer.bos_id,) if tokenizer.adds_bos and tokenizer.bos_id is not None else ()
