"""Reserved tokens: ids that a vocabulary keeps free for later use, recognised by their names."""

import re
from collections.abc import Mapping

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


def reserved_ids(vocabulary: Mapping[str, int], size: int) -> frozenset[int]:
    """The ids below `size` whose token has the name of a reserved one, or that have no token at all."""
    reserved = {index for token, index in vocabulary.items() if token[:1] in "<[" and RESERVED.fullmatch(token)}
    return frozenset(index for index in reserved | (set(range(size)) - set(vocabulary.values())) if index < size)
