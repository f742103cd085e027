"""Variables of a chat template that a user sets, such as `enable_thinking=false` for Qwen 3."""

import json
from collections.abc import Iterable
from typing import Any

from mlx_suite.runtime.errors import UserError

FLAG = "--template-arg"
THINKING = "enable_thinking"
"""The variable with which the templates of Qwen 3 and of others turn reasoning on or off."""
_OURS = ("messages", "tools", "documents", "add_generation_prompt")
"""Names that every rendering sets itself."""


def read_variables(pairs: Iterable[str]) -> dict[str, Any]:
    """Variables from texts NAME=VALUE: a VALUE in JSON (false, 3, "x", [1]) is that value, any other is text.

    Raises UserError for a text without a name or of a name that rendering sets.
    """
    variables: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier():
            raise UserError(f"{FLAG} is {pair!r}", where=FLAG, fix=f"write NAME=VALUE: {FLAG} enable_thinking=false")
        try:
            variables[name] = json.loads(text)
        except ValueError:
            # Python's spelling too, because templates have it.
            variables[name] = {"True": True, "False": False, "None": None}.get(text, text)
    check_names(variables, FLAG)
    return variables


def check_names(names: Iterable[str], where: str) -> None:
    """Raises UserError for a name that every rendering sets itself."""
    taken = [name for name in names if name in _OURS]
    if taken:
        raise UserError(f"{where} sets {', '.join(taken)}, which every conversation sets", where=where, fix="omit it")
