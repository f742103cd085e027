"""Conversations with tools in OpenAI's form, for chat templates that write calls and results in their own words."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlx_suite.data.example import ToolTurns
from mlx_suite.data.read.conversation import (
    TOOL,
    Spelling,
    call_line,
    calls_of,
    joined_parts,
    present,
    reasoning_of,
    trained,
)
from mlx_suite.data.read.dialects import parsed
from mlx_suite.text.message import ASSISTANT, SYSTEM


def tool_turns(value: Any, spelling: Spelling, tools: Any, system: str) -> ToolTurns | None:
    """The turns of a row without faults; None if it has neither tools nor calls, or a call that is not understood."""
    turns = parsed(value)
    tools = parsed(tools) or []
    made: list[Mapping[str, Any]] = [{"role": SYSTEM, "content": system}] if system else []
    flags = [True] * len(made)
    for turn in turns:
        one = _turn(turn, spelling)
        if one is None:
            return None
        if one["role"] != SYSTEM or one["content"].strip():
            made.append(one)
            flags.append(trained(turn, "", []))
    uses_tools = any("tool_calls" in turn or turn["role"] == TOOL for turn in made)
    return ToolTurns(turns=tuple(made), trained=tuple(flags), tools=tuple(tools)) if tools or uses_tools else None


def spoken_text(turn: Mapping[str, Any]) -> str:
    """A turn in OpenAI's form as text, as chat templates without tools get it: its calls as lines of JSON."""
    content = str(turn.get("content") or "")
    if turn.get("role") == TOOL and isinstance(turn.get("name"), str) and turn["name"]:
        return f"{turn['name']}: {content}"
    calls = map(call_line, calls_of(turn) if turn.get("role") == ASSISTANT else ())
    return "\n".join([*([content] if content else []), *calls])


def one_call_each(turns: Sequence[Mapping[str, Any]]) -> list[tuple[int, Mapping[str, Any]]]:
    """The turns, with their old numbers, where each call has its own turn and its result follows it.

    For templates that take one call in a turn.
    """
    results = {turn.get("tool_call_id"): place for place, turn in enumerate(turns) if turn["role"] == TOOL}
    placed: set[int] = set()
    split: list[tuple[int, Mapping[str, Any]]] = []
    for place, turn in enumerate(turns):
        calls = turn.get("tool_calls", ())
        if len(calls) < 2:
            if place not in placed:
                split.append((place, turn))
            continue
        for number, call in enumerate(calls):
            split.append((place, {**turn, "content": "" if number else turn["content"], "tool_calls": [call]}))
            result = results.get(call.get("id"))
            if call.get("id") and result is not None:
                split.append((result, turns[result]))
                placed.add(result)
    return split


def _turn(turn: Mapping[str, Any], spelling: Spelling) -> Mapping[str, Any] | None:
    name = turn[present(turn, spelling.role_keys) or ""]
    role = spelling.roles[name.lower() if spelling.alternating else name]
    key = present(turn, spelling.text_keys)
    content = turn[key] if key else ""
    content = joined_parts(content, "", []) if isinstance(content, list) else content
    made: dict[str, Any] = {"role": role, "content": content or ""}
    calls = calls_of(turn) if role == ASSISTANT else ()
    if name == "function_call":  # ShareGPT's, whose text is the call, or a list of calls
        call = parsed(content)
        calls, made["content"] = call if isinstance(call, list) else [call], ""
    if calls:
        made["tool_calls"] = [_call(call) for call in calls]
        if None in made["tool_calls"]:
            return None
    if role == ASSISTANT and (reasoning := reasoning_of(turn)):
        made["reasoning_content"] = reasoning
    if role == TOOL:
        made |= {key: turn[key] for key in ("tool_call_id", "name") if isinstance(turn.get(key), str)}
    return made


def _call(call: Any) -> Mapping[str, Any] | None:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        return None
    made = {"type": "function", "function": {"name": function["name"], "arguments": parsed(function.get("arguments"))}}
    return {"id": call["id"], **made} if isinstance(call.get("id"), str) else made
