"""Later turns of a row, generated after its first exchange in the same slot and on the same KV cache.

    … response → user header → instruction → assistant header → response → …

Both headers are what the template itself puts between turns, so every turn names its role. The paper gives its 8B
model a system prompt for that (arXiv 2406.08464, section 2.3); it still drifts. A user's turn that drifts (`drift`) is
rewound and sampled again from other random numbers. If that fails too, the conversation ends with the turns it has: a
row is never lost to its second turn. Later turns are not steered: the first one sets the subject.
"""

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

from mlx_suite.engine import Given, Mark, Rewind, Written
from mlx_suite.engine.program import Segment
from mlx_suite.magpie.drift import REPLY, drift_of, flaw_of
from mlx_suite.magpie.plan import RowPlan
from mlx_suite.magpie.records import Ending, Exchange, ending_of
from mlx_suite.magpie.settings import SamplingSetting
from mlx_suite.text.reasoning import OPEN

TRIES = 3
"""Attempts at a user's turn. If every second one drifts, three attempts lose one conversation in eight."""

Further = tuple[tuple[Exchange, ...], str | None]
"""The exchanges after the first, and why there are no more: one of `drift.DRIFTS`, or `answer_` and a flaw. None if
all were generated."""


def further_turns(
    plan: RowPlan, setting: SamplingSetting, first: Exchange, tries: int = TRIES
) -> Generator[Segment, Any, Further]:
    """Part of a row's program: continue after its first exchange, whose response is complete.

    When it returns, the sequence ends with the last response that is kept.
    """
    turns = [first]
    while len(turns) < plan.settings.turns:
        yield from end_turn(turns[-1].response_end.stop, plan.assistant_end)
        end = yield Mark()
        exchange = yield from _exchange(plan, setting, turns, tries)
        if isinstance(exchange, str):
            yield Rewind(end)
            return tuple(turns[1:]), exchange
        turns.append(exchange)
    return tuple(turns[1:]), None


def without_reasoning(plan: RowPlan, start: int, written: Written, response: str) -> Generator[Segment, Any, Written]:
    """Leave only the response in the sequence if the model reasoned before it; returns how the sequence ends now.

    Args:
        start: Position before the header of the response.
    """
    if plan.decode(written.tokens) == response:
        return written
    yield Rewind(start)
    yield Given(plan.assistant_turn(response))
    return replace(written, stop_token=plan.assistant_end)


def end_turn(sampled: int | None, stop: int) -> Generator[Segment, Any, None]:
    """Replace the stop token at the end of a sampled text by the template's own, `stop`, if they differ."""
    if sampled != stop:
        end = yield Mark()
        yield Rewind(end - 1)
        yield Given((stop,))


def _exchange(
    plan: RowPlan, setting: SamplingSetting, turns: Sequence[Exchange], tries: int
) -> Generator[Segment, Any, Exchange | str]:
    """Generate one exchange; returns it, or the reason it failed."""
    instruction = yield from _instruction(plan, setting, turns, tries)
    if isinstance(instruction, str):
        return instruction
    raw, text, end = instruction
    start = yield Mark()
    yield Given(plan.pre_query.to_assistant_ids)
    written: Written = yield plan.response_sample
    reasoning, response = plan.answer_of(written.tokens)
    flaw = flaw_of(written, response, plan.response_ends)
    if flaw is not None:
        return f"answer_{flaw}"
    if response.startswith(OPEN):
        return "answer_thought"
    written = yield from without_reasoning(plan, start, written, response)
    return Exchange(
        instruction=text,
        raw=raw,
        instruction_end=end,
        response=response,
        reasoning=reasoning,
        response_end=ending_of(written),
    )


def _instruction(
    plan: RowPlan, setting: SamplingSetting, turns: Sequence[Exchange], tries: int
) -> Generator[Segment, Any, tuple[str, str, Ending] | str]:
    """Generate a user's turn; returns the raw text, the sanitised one and its ending, or the reason it failed."""
    sample = plan.instruction_sample(setting)
    yield Given(plan.pre_query.to_user_ids)
    start = yield Mark()
    # Greedy sampling would only repeat itself.
    tries = tries if sample.sampling.temperature else 1
    problem = "empty"
    for attempt in range(tries):
        if attempt:
            yield Rewind(start)
        written: Written = yield replace(sample, salt=sample.salt + attempt)
        raw = plan.decode(written.tokens)
        text = plan.clean(raw).text
        found = _problem(plan, turns, written, text)
        if found is None:
            if text != raw:
                yield Rewind(start)
                yield Given(plan.user_turn(text))
            found = yield from _role_drift(plan)
        if found is None:
            return raw, text, ending_of(written)
        problem = found
        if problem == "context":
            break  # another attempt has no more room
    return problem


def _problem(plan: RowPlan, turns: Sequence[Exchange], written: Written, text: str) -> str | None:
    flaw = flaw_of(written, text, (plan.user_end,))
    return flaw or drift_of(text, [turn.instruction for turn in turns], [turn.response for turn in turns])


def _role_drift(plan: RowPlan) -> Generator[Segment, Any, str | None]:
    """Ask the model who wrote the last turn."""
    if plan.role is None:
        return None
    replies = yield plan.role
    return "reply" if replies and replies[0].index == REPLY else None
