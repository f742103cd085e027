"""Encoding of a conversation with tools, whose template serialises what clients send: definitions, calls, results.

A template may write these texts as JSON, so their contents cannot be found in the rendered text as in `encode_chat`.
Instead each place in them at which the name of a special token begins is broken up by a guard: a private-use character
that occurs nowhere else, that no filter strips, and that JSON leaves as it is. In the rendered text a special token
with a guard is the client's, and is encoded as ordinary text.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from mlx_suite.runtime.errors import UserError
from mlx_suite.text.chat import unused_letter
from mlx_suite.text.pieces import TEMPLATE, Piece, replace_surrogates
from mlx_suite.text.template import ChatTemplate
from mlx_suite.text.tokenizer import Tokenizer

CLIENT = 0
"""Owner of a guarded letter; tokens of tool chats are not attributed to single turns."""
Turn = Mapping[str, Any]
"""A turn or a tool definition in OpenAI's form. Arguments of calls are objects, not text."""


def encode_tool_chat(
    tokenizer: Tokenizer, template: ChatTemplate, turns: Sequence[Turn], tools: Sequence[Turn] | None
) -> list[int]:
    """The prompt for the response to a conversation with tools: ids with one leading BOS if the model uses BOS.

    Equal to transformers' `apply_chat_template` unless texts contain special tokens. Raises UserError if the template
    rejects the conversation, fails, or rewrites special tokens in texts.
    """
    pieces = tool_chat_pieces(tokenizer, template, turns, tools)
    return tokenizer.with_one_bos(tokenizer.encode_pieces(pieces)).ids


def tool_chat_pieces(
    tokenizer: Tokenizer, template: ChatTemplate, turns: Sequence[Turn], tools: Sequence[Turn] | None
) -> list[Piece]:
    """Split the rendered prompt at the guarded letters."""
    turns = [_mapped(turn, replace_surrogates) for turn in turns]
    tools = None if tools is None else [_mapped(tool, replace_surrogates) for tool in tools]
    rendered = template.render_turns(turns, tools=tools, add_generation_prompt=True)
    guard = _Guard(unused_letter(rendered), tokenizer.backend.marks)
    guarded = template.render_turns(
        [{**_mapped(turn, guard), "role": turn["role"]} for turn in turns],
        tools=None if tools is None else [_mapped(tool, guard) for tool in tools],
        add_generation_prompt=True,
    )
    if guarded.replace(guard.letter, "") != rendered:
        raise UserError(
            "the chat template rewrites special tokens in these messages, so they cannot be told from its own",
            template.origin,
            "remove special tokens from the messages, the tools and their results",
        )
    pieces: list[Piece] = []
    *before, last = guarded.split(guard.letter)
    for part in before:
        pieces += [Piece(text=part[:-1], owner=TEMPLATE), Piece(text=part[-1:], owner=CLIENT)]
    return [*pieces, Piece(text=last, owner=TEMPLATE)]


class _Guard:
    """Inserts a guard after each letter at which a special token begins, or might begin with what follows the text."""

    def __init__(self, letter: str, specials: Iterable[str]) -> None:
        self.letter = letter
        self._starts = _starts_of(tuple(filter(None, specials)))

    def __call__(self, text: str) -> str:
        return text if self._starts is None else self._starts.sub(lambda match: match[0] + self.letter, text)


@lru_cache(maxsize=8)
def _starts_of(specials: tuple[str, ...]) -> re.Pattern[str] | None:
    """Matches a letter at which one of these begins, or a part of one that reaches the end of the text."""
    if not specials:
        return None
    first = "".join(map(re.escape, sorted({name[0] for name in specials})))
    parts = {name[:end] for name in specials for end in range(1, len(name))}
    whole, part = ("|".join(map(re.escape, sorted(names))) for names in (specials, parts))
    return re.compile(f"(?=[{first}])(?={whole}|(?:{part})\\s*\\Z).", re.DOTALL)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """The value with all its texts changed, keys included."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {_mapped(key, change): _mapped(part, change) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(part, change) for part in value]
    return value
