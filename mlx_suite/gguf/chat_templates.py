"""Chat templates in a GGUF file, and the token that ends their turns."""

from collections.abc import Mapping
from typing import Any

from mlx_suite.gguf.token_list import TokenList
from mlx_suite.text.message import ASSISTANT, USER, Message
from mlx_suite.text.pieces import specials_pattern
from mlx_suite.text.template import ChatTemplate

KEY = "tokenizer.chat_template"
_REPLY = "Blue like the sea."


def read_templates(metadata: Mapping[str, Any]) -> dict[str, str]:
    """The templates by name: `default`, and others such as `tool_use` that `tokenizer.chat_templates` lists."""
    found = {name: metadata.get(f"{KEY}.{name}") for name in metadata.get("tokenizer.chat_templates", ())}
    templates = {"default": metadata.get(KEY), **found}
    return {name: text for name, text in templates.items() if isinstance(text, str) and text.strip()}


def turn_end(source: str, roles: Mapping[str, str], tokens: TokenList) -> int | None:
    """Id of the special token that follows a response in the template; None if text follows.

    Raises UserError if the template cannot be rendered.
    """
    template = ChatTemplate(source=source, special_tokens=roles, origin=KEY)
    text = template.render([Message(USER, "Which blue?"), Message(ASSISTANT, _REPLY)])
    _, found, after = text.partition(_REPLY)
    ids = {tokens.texts[index]: index for index, special in tokens.added.items() if special}
    pattern = specials_pattern(ids)
    match = pattern.match(after.lstrip()) if pattern and found else None
    return ids[match[0]] if match else None
