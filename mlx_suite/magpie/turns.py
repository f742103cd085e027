"""Later turns of a row, generated after its first exchange in the same slot and on the same KV cache.

    … response → user header → instruction → assistant header → response → …

Both headers are what the template itself puts between turns, so every turn names its role. The paper gives its 8B
model a system prompt for that (arXiv 2406.08464, section 2.3); it still drifts. A user's turn that drifts (`drift`) is
rewound and sampled again from other random numbers. If that fails too, the conversation ends with the turns it has: a
row is never lost to its second turn.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlx_suite.engine import Given, Mark, Queries, Rewind, Sample, Written
from mlx_suite.engine.program import Segment
from mlx_suite.magpie.drift import REPLY, drift_of, flaw_of
from mlx_suite.text import PreQuery, Tokenizer

Further = tuple[tuple["Turn", ...], str | None]
"""The turns after the first, and why there are no more: one of `drift.DRIFTS`, or `answer_` and a flaw. None if all
were generated."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One exchange: an instruction and its response."""

    instruction: str
    """As it stands in the conversation: sanitised and stripped."""
    instruction_written: Written
    """The instruction as sampled."""
    response: str
    response_written: Written
    """The response as sampled."""
    raw_instruction: str | None = None
    """The decoded instruction before sanitising, where that changed it."""


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """How a conversation continues."""

    turns: int
    """Number of exchanges to reach, the first one included."""
    instruction_sample: Sample
    """Sampling of an instruction."""
    response_sample: Sample
    """Sampling of a response."""
    pre_query: PreQuery
    tokenizer: Tokenizer
    response_ends: frozenset[int]
    """Stop tokens that end a complete response."""
    clean: Callable[[str], str]
    """The sanitiser."""
    encode: Callable[[str], Sequence[int]]
    """Tokens of a sanitised instruction as they stand after a user header."""
    role: Queries | None = None
    """`drift.ROLE_QUESTIONS` in the model's tokens. None for models trained only on questions of their own."""
    tries: int = 3
    """Attempts at a user's turn. If every second one drifts, three attempts lose one conversation in eight."""


def further_turns(conversation: Conversation, first: Turn) -> Generator[Segment, Any, Further]:
    """Part of a row's program: continue after its first exchange, whose response is complete.

    When it returns, the sequence ends with the last response that is kept.
    """
    turns = [first]
    while len(turns) < conversation.turns:
        yield from end_turn(turns[-1].response_written, conversation.pre_query.assistant_stop_ids[0])
        end = yield Mark()
        exchange = yield from _exchange(conversation, turns)
        if isinstance(exchange, str):
            yield Rewind(end)
            return tuple(turns[1:]), exchange
        turns.append(exchange)
    return tuple(turns[1:]), None


def end_turn(written: Written, stop: int) -> Generator[Segment, Any, None]:
    """Replace the stop token at the end of a sampled text by the template's own, if they differ."""
    if written.stop_token != stop:
        end = yield Mark()
        yield Rewind(end - 1)
        yield Given((stop,))


def _exchange(conversation: Conversation, turns: Sequence[Turn]) -> Generator[Segment, Any, Turn | str]:
    """Generate one exchange; returns it, or the reason it failed."""
    instruction = yield from _instruction(conversation, turns)
    if isinstance(instruction, str):
        return instruction
    raw, text, written = instruction
    yield Given(conversation.pre_query.to_assistant_ids)
    response_written: Written = yield conversation.response_sample
    response = conversation.tokenizer.decode(response_written.tokens).strip()
    flaw = flaw_of(response_written, response, conversation.response_ends)
    if flaw is not None:
        return f"answer_{flaw}"
    return Turn(
        instruction=text,
        instruction_written=written,
        response=response,
        response_written=response_written,
        raw_instruction=raw if text != raw else None,
    )


def _instruction(
    conversation: Conversation, turns: Sequence[Turn]
) -> Generator[Segment, Any, tuple[str, str, Written] | str]:
    """Generate a user's turn; returns the raw text, the sanitised one and the tokens, or the reason it failed."""
    pre_query, sample = conversation.pre_query, conversation.instruction_sample
    yield Given(pre_query.to_user_ids)
    start = yield Mark()
    # Greedy sampling would only repeat itself.
    tries = conversation.tries if sample.sampling.temperature else 1
    problem = "empty"
    for attempt in range(tries):
        if attempt:
            yield Rewind(start)
        written: Written = yield replace(sample, salt=sample.salt + attempt)
        raw = conversation.tokenizer.decode(written.tokens).strip()
        text = conversation.clean(raw)
        found = _problem(conversation, turns, written, text)
        if found is None:
            if text != raw:
                yield Rewind(start)
                yield Given((*conversation.encode(text), pre_query.user_stop_ids[0]))
            found = yield from _role_drift(conversation)
        if found is None:
            return raw, text, written
        problem = found
        if problem == "context":
            break  # another attempt has no more room
    return problem


def _problem(conversation: Conversation, turns: Sequence[Turn], written: Written, text: str) -> str | None:
    flaw = flaw_of(written, text, conversation.pre_query.user_stop_ids[:1])
    return flaw or drift_of(text, [turn.instruction for turn in turns], [turn.response for turn in turns])


def _role_drift(conversation: Conversation) -> Generator[Segment, Any, str | None]:
    """Ask the model who wrote the last turn."""
    if conversation.role is None:
        return None
    replies = yield conversation.role
    return "reply" if replies and replies[0].index == REPLY else None
