"""Shorthand for writing conversations and reading documents in tests."""

from collections.abc import Callable, Sequence
from itertools import groupby

from mlx_suite.data.batch.rows import Document
from mlx_suite.data.encode.encoding import Encoded, encode_all
from mlx_suite.data.example import Example
from mlx_suite.text import Message, Tokenizer
from tests.text.conftest import Family

FAMILIES = ("llama3", "llama31", "gemma2", "mistral", "phi3", "qwen2", "qwen25")
ROLES = {"S": "system", "U": "user", "A": "assistant", "T": "tool"}

Families = Callable[[str], Family]


def said(*turns: str, context: str = "", untrained: Sequence[int] = ()) -> Example:
    """A conversation: `said("U: Hi", "A: Hello")`. `untrained` lists the numbers of turns marked as untrained."""
    parts = [turn.partition(": ") for turn in turns]
    messages = [Message(ROLES[who], text, number not in untrained) for number, (who, _, text) in enumerate(parts)]
    return Example(messages=tuple(messages), context=context, place="rows.jsonl:1")


def encoded(one: Family, *examples: Example, style: str = "chat", train_on: str = "assistant") -> Encoded:
    return encode_all(examples, style=style, tokenizer=one.tokenizer, template=one.template, train_on=train_on)


def document(one: Family, example: Example, style: str = "chat", train_on: str = "assistant") -> Document:
    """The only document of one example."""
    found = encoded(one, example, style=style, train_on=train_on)
    assert found.problems == ()
    [made] = found.documents
    return made


def problem(one: Family, example: Example, style: str = "chat", train_on: str = "assistant") -> str:
    """The only problem of one example."""
    found = encoded(one, example, style=style, train_on=train_on)
    assert found.documents == ()
    [made] = found.problems
    return str(made)


def shown(made: Document, tokenizer: Tokenizer) -> str:
    """The decoded document, with its trained tokens in brackets: `Hi<|eot_id|>[Hello<|eot_id|>]`."""
    text = ""
    pairs = zip(made.tokens, made.weights, strict=True)
    for weight, members in groupby(pairs, key=lambda pair: pair[1]):
        part = tokenizer.decode([token for token, _ in members], skip_special=False)
        text += f"[{part}]" if weight else part
    return text


def trained(made: Document) -> list[int]:
    """The trained tokens."""
    return [token for token, weight in zip(made.tokens, made.weights, strict=True) if weight]
