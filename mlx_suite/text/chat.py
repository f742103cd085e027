"""Encoding of a conversation as token ids, with the owner of every token.

The template is rendered with texts that know which message each of their letters comes from (`traced`), so the
rendered conversation says so too. Message text is never mistaken for template text and never encodes a special token,
whatever it contains, and whatever the template does with it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mlx_suite.text.message import Message
from mlx_suite.text.pieces import DEFINITIONS, EncodedChat, Piece, replace_surrogates
from mlx_suite.text.template import ChatTemplate
from mlx_suite.text.tokenizer import Tokenizer
from mlx_suite.text.traced import own, runs

Turn = Mapping[str, Any]
"""A turn or a tool definition in OpenAI's form. Arguments of calls are objects, not text."""


def encode_chat(
    tokenizer: Tokenizer,
    template: ChatTemplate,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool = False,
) -> EncodedChat:
    """Encode a conversation: ids and the message each belongs to, with one leading BOS if the model uses BOS.

    Equal to transformers' `apply_chat_template` unless contents contain special tokens. Raises UserError if the
    template rejects the conversation or fails.
    """
    pieces = chat_pieces(template, messages, add_generation_prompt=add_generation_prompt)
    return tokenizer.with_one_bos(tokenizer.encode_pieces(pieces))


def encode_tool_chat(
    tokenizer: Tokenizer, template: ChatTemplate, turns: Sequence[Turn], tools: Sequence[Turn] | None
) -> list[int]:
    """Like `encode_chat`, for the prompt of a conversation with tools. Definitions, calls and results are message text.

    Raises UserError if the template rejects the conversation or fails.
    """
    pieces = turn_pieces(template, turns, tools, add_generation_prompt=True)
    return tokenizer.with_one_bos(tokenizer.encode_pieces(pieces)).ids


def chat_pieces(
    template: ChatTemplate, messages: Sequence[Message], *, add_generation_prompt: bool = False
) -> list[Piece]:
    """Split the rendered conversation into template text and message contents, in order."""
    turns = [{"role": message.role, "content": message.content} for message in messages]
    return turn_pieces(template, turns, add_generation_prompt=add_generation_prompt)


def turn_pieces(
    template: ChatTemplate,
    turns: Sequence[Turn],
    tools: Sequence[Turn] | None = None,
    *,
    add_generation_prompt: bool = False,
) -> list[Piece]:
    """`chat_pieces` for turns in OpenAI's form: all texts of a turn but its role belong to it."""
    rendered = template.render_turns(
        [{**own(_sound(turn), number), "role": turn["role"]} for number, turn in enumerate(turns)],
        tools=None if tools is None else own(_sound(tools), DEFINITIONS),
        add_generation_prompt=add_generation_prompt,
    )
    return [Piece(text=text, owner=owner) for text, owner in runs(rendered)]


def _sound(value: Any) -> Any:
    """A JSON value with texts that can be encoded."""
    if isinstance(value, str):
        return replace_surrogates(value)
    if isinstance(value, Mapping):
        return {_sound(key): _sound(part) for key, part in value.items()}
    return [_sound(part) for part in value] if isinstance(value, list | tuple) else value
