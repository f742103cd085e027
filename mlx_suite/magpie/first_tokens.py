"""First tokens that an instruction may not begin with, found by what they say.

Llama 3.1 likes to begin a user's turn with `## Step 1`, which is an answer. The reference code forbids it by four
token ids of that one vocabulary, magpie-ultra by three more. Here the same ids follow from `#` and `**`, in any
vocabulary.
"""

from collections.abc import Sequence

from mlx_suite.runtime.errors import UserError
from mlx_suite.text import Tokenizer


def first_token_bans(tokenizer: Tokenizer, strings: Sequence[str]) -> tuple[int, ...]:
    """Ids of all tokens whose text, without whitespace in front, begins with one of `strings`, ascending.

    Special tokens are left out: `<` must not forbid the end of a turn. Raises UserError for strings that forbid
    nothing: empty ones, and those with which no single token begins. (A ban that does nothing would go unseen.)
    """
    wanted = [string.lstrip() for string in strings]
    found: dict[str, list[int]] = {string: [] for string in wanted}
    for token in range(tokenizer.vocab_size):
        if token in tokenizer.special_ids:
            continue
        text = _text_of(tokenizer, token).lstrip()
        for string in found:
            if string and text.startswith(string):
                found[string].append(token)
    problems = [_problem(string) for string, tokens in found.items() if not tokens]
    if problems:
        raise UserError(
            "A ban on the first token forbids nothing",
            where=tokenizer.origin,
            fix="ban how the unwanted texts begin with fewer characters, as '*' in place of '**'",
            details=problems,
        )
    return tuple(sorted({token for tokens in found.values() for token in tokens}))


def _text_of(tokenizer: Tokenizer, token: int) -> str:
    """What one token writes; "" for an id without a token. A part of a character shows as U+FFFD."""
    if tokenizer.token_of(token) is None:
        return ""
    if tokenizer.backend.token_bytes is None:
        return tokenizer.decode([token])
    # Not `decode`, which takes the first space of a text away and would see two in "▁▁#".
    return tokenizer.bytes_of(token).decode("utf-8", errors="replace")


def _problem(string: str) -> str:
    return f"no token begins with {string!r}" if string else "a string is empty"
