"""Reserved tokens: ids that a vocabulary keeps free for later use, recognised by their names."""

import re
from collections.abc import Iterable

RESERVED = re.compile(
    r"<unused_?\d+>"  # Gemma
    r"|\[unused_?\d+\]"  # BERT
    r"|<\|reserved_special_token_\d+\|>"  # Llama 3
    r"|<\|?reserved_?\d+\|?>|<reserved_token_\d+>"
    r"|\[control_\d+\]|<SPECIAL_\d+>"  # Mistral
    r"|<\|dummy_\d+\|>|<\|placeholder\d+\|>"  # Phi
    r"|\[PAD\d+\]"  # rows that converters add to a vocabulary
)
"""Names of reserved tokens, as model families write them."""


def reserved_ids(tokens: Iterable[str | None]) -> frozenset[int]:
    """Of tokens in the order of their ids: the ids of those with the name of a reserved one, and of None, no token."""
    return frozenset(
        index
        for index, token in enumerate(tokens)
        if token is None or (token[:1] in "<[" and RESERVED.fullmatch(token))
    )
