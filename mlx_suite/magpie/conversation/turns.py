"""More turns behind a first exchange, in the same slot and on the same keys and values.

    … answer → user's header → question → assistant's header → answer → …

Both headers are what the template itself puts between turns, so the model is told at every turn who speaks: the paper
gives its 8B model a system prompt for that (arXiv 2406.08464, section 2.3), and it forgets all the same. A user's turn
that is none (`drift`) is taken back and written again with other random numbers. If that does not help, the
conversation ends with the turns it has: a row is never lost to its second turn.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlx_suite.engine import Aside, Given, Rewind, Sample, Written
from mlx_suite.engine.program import Segment
from mlx_suite.magpie.conversation.drift import REPLY, drift_of
from mlx_suite.magpie.conversation.endings import flaw_of
from mlx_suite.text import PreQuery, Tokenizer

Further = tuple[tuple["Turn", ...], str | None]
"""The turns behind the first, and why there are not more: one of `drift.DRIFTS`, or `answer_` and a flaw. None where
there are as many as were wanted."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A question and its answer."""

    instruction: str
    """As it stands in the conversation: cleaned, without whitespace around it."""
    asked: Written
    """As the model wrote it."""
    answer: str
    answered: Written
    raw_instruction: str | None = None
    """What the model wrote, where cleaning has changed it."""


@dataclass(frozen=True, kw_only=True)
class Talk:
    """How a conversation goes on."""

    turns: int
    """Exchanges that are wanted, the first one included."""
    asking: Sample
    """A question."""
    answering: Sample
    """An answer."""
    pre_query: PreQuery
    tokenizer: Tokenizer
    answer_ends: frozenset[int]
    """Tokens that end a whole answer."""
    clean: Callable[[str], str]
    """The sanitiser."""
    encode: Callable[[str], Sequence[int]]
    """Tokens of a cleaned question as they stand behind a user's header."""
    role: Aside | None = None
    """`drift.ROLE_QUESTIONS` in the model's tokens. None for models that were trained on other questions alone."""
    tries: int = 3
    """How often a user's turn is written at most. Where one in two drifts, three lose one conversation in eight."""


def further_turns(talk: Talk, first: Turn, length: int) -> Generator[Segment, Any, Further]:
    """A part of a row's program: go on behind its first exchange.

    Args:
        first: The exchange that the sequence holds. Its answer is whole.
        length: Tokens of the sequence so far; the last one is the answer's stop token.

    When it ends, so does the sequence with the last answer that is kept.
    """
    said = [first]
    while len(said) < talk.turns:
        own = talk.pre_query.assistant_stop_ids[0]
        if said[-1].answered.stop_token != own:
            yield Rewind(length - 1)
            yield Given((own,))
        found = yield from _exchange(talk, said, length)
        if isinstance(found, str):
            yield Rewind(length)
            return tuple(said[1:]), found
        turn, length = found
        said.append(turn)
    return tuple(said[1:]), None


def _exchange(talk: Talk, said: Sequence[Turn], length: int) -> Generator[Segment, Any, tuple[Turn, int] | str]:
    """One more turn and the length with it; or what came in its way."""
    found = yield from _question(talk, said, length)
    if isinstance(found, str):
        return found
    raw, text, asked, length = found
    yield Given(talk.pre_query.to_assistant_ids)
    answered: Written = yield talk.answering
    answer = talk.tokenizer.decode(answered.tokens).strip()
    flaw = flaw_of(answered, answer, talk.answer_ends)
    if flaw is not None:
        return f"answer_{flaw}"
    length += len(talk.pre_query.to_assistant_ids) + len(answered.tokens) + 1
    raw_instruction = raw if text != raw else None
    turn = Turn(instruction=text, asked=asked, answer=answer, answered=answered, raw_instruction=raw_instruction)
    return turn, length


def _question(
    talk: Talk, said: Sequence[Turn], length: int
) -> Generator[Segment, Any, tuple[str, str, Written, int] | str]:
    """A user's turn: as it was written, cleaned, its tokens, and the length with it; or why there is none."""
    yield Given(talk.pre_query.to_user_ids)
    start = length + len(talk.pre_query.to_user_ids)
    # What is most probable stays so, however often it is asked for.
    tries = talk.tries if talk.asking.sampling.temperature else 1
    reason = "empty"
    for attempt in range(tries):
        if attempt:
            yield Rewind(start)
        asked: Written = yield replace(talk.asking, salt=talk.asking.salt + attempt)
        raw = talk.tokenizer.decode(asked.tokens).strip()
        text = talk.clean(raw)
        found = _flaw_or_drift(talk, said, asked, text)
        if found is None:
            length = start + len(asked.tokens) + 1
            if text != raw:
                yield Rewind(start)
                cleaned = (*talk.encode(text), talk.pre_query.user_stop_ids[0])
                yield Given(cleaned)
                length = start + len(cleaned)
            found = yield from _role_drift(talk)
        if found is None:
            return raw, text, asked, length
        reason = found
        if reason == "context":
            break  # another text has no more room
    return reason


def _flaw_or_drift(talk: Talk, said: Sequence[Turn], asked: Written, text: str) -> str | None:
    flaw = flaw_of(asked, text, talk.pre_query.user_stop_ids[:1])
    return flaw or drift_of(text, [turn.instruction for turn in said], [turn.answer for turn in said])


def _role_drift(talk: Talk) -> Generator[Segment, Any, str | None]:
    """What the model itself says about who has spoken."""
    if talk.role is None:
        return None
    replies = yield talk.role
    return "reply" if replies and replies[0].index == REPLY else None
