"""Rows of other programs in OpenAI's form, where their meaning is plain.

    Anthropic        {"system": … or blocks, "messages": [{"role", "content": [blocks]}], "tools": [{"input_schema"}]}
                     blocks: text, thinking, tool_use (a call), tool_result (a turn of its own)
    Gemini           {"systemInstruction": …, "contents": [{"role": "user" or "model", "parts": [parts]}], "tools": …}
                     parts: text (with `thought`, reasoning), functionCall, functionResponse
    LLaMA-Factory    tool definitions without OpenAI's wrapper, also as JSON text; Alpaca's `history`

A block or part of another kind, such as an image, stays where it is, so that the reader reports it.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from mlx_suite.text.message import ASSISTANT, USER

Fields = Mapping[str, Any]
Turn = dict[str, Any]

THINKING, TOOL_USE, TOOL_RESULT = "thinking", "tool_use", "tool_result"
_BLOCKS = (THINKING, "redacted_thinking", TOOL_USE, TOOL_RESULT)
"""Types of Anthropic's blocks that OpenAI's parts of a turn do not have."""
_INSTRUCTIONS = ("systemInstruction", "system_instruction")
_GEMINI_TYPES = ("STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL")


def in_openai_form(fields: Fields) -> Fields:
    """The row with `messages`, `system` and `tools` as OpenAI writes them; any other row unchanged."""
    contents = parsed(fields.get("contents"))
    if _are_objects(contents) and any("parts" in turn for turn in contents) and fields.get("messages") is None:
        return _of_gemini(fields, contents)
    messages = parsed(fields.get("messages"))
    if _are_objects(messages) and any(_has_blocks(turn.get("content")) for turn in messages):
        fields = {**fields, "messages": [made for turn in messages for made in _turns_of_blocks(turn)]}
    if _are_objects(fields.get("system")):
        fields = {**fields, "system": _joined(fields["system"])}
    return fields


def definitions(tools: Any) -> Any:
    """Tool definitions, or their JSON text, each in OpenAI's wrapper; anything else unchanged."""
    listed = parsed(tools)
    if not _are_objects(listed):
        return listed if isinstance(listed, list) else tools
    return [_definition(tool) for tool in listed]


def parsed(value: Any) -> Any:
    """JSON in a text as the value; anything else unchanged, because some models write arguments that are not JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def earlier_turns(history: Any) -> list[tuple[str, str]] | None:
    """The (instruction, response) pairs of Alpaca's `history`, or of its JSON text; None for another value."""
    pairs = parsed(history)
    if not isinstance(pairs, list):
        return None
    if not all(isinstance(pair, list) and len(pair) == 2 and all(isinstance(x, str) for x in pair) for pair in pairs):
        return None
    return [(instruction, response) for instruction, response in pairs]


def _definition(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    if "function" in tool or not isinstance(tool.get("name"), str):
        return tool
    function = {key: value for key, value in tool.items() if key not in ("input_schema", "type")}
    if "input_schema" in tool:
        function["parameters"] = tool["input_schema"]
    return {"type": "function", "function": function}


# ---- Anthropic


def _has_blocks(content: Any) -> TypeGuard[list[dict[str, Any]]]:
    return _are_objects(content) and any(block.get("type") in _BLOCKS for block in content)


def _turns_of_blocks(turn: Mapping[str, Any]) -> list[Turn]:
    """A turn in OpenAI's form; the results of tools come first, each as a turn of its own."""
    content = turn.get("content")
    if not _has_blocks(content):
        return [dict(turn)]
    results: list[Turn] = []
    calls, thoughts, rest = [], [], []
    for block in content:
        kind = block.get("type")
        if kind == TOOL_USE and turn.get("role") == ASSISTANT:
            calls.append(_call(block.get("name"), block.get("input"), block.get("id")))
        elif kind == TOOL_RESULT and turn.get("role") == USER:
            text = block.get("content")
            results.append(_result(_joined(text) if _are_objects(text) else text, block.get("tool_use_id")))
        elif kind == THINKING and isinstance(block.get(THINKING), str):
            thoughts.append(block[THINKING])
        else:
            rest.append(block)
    said = _said(turn, rest, calls, thoughts)
    return [*results, *([said] if rest or calls or thoughts or not results else [])]


# ---- Gemini


def _of_gemini(fields: Fields, contents: Sequence[Mapping[str, Any]]) -> Fields:
    instruction = next((key for key in _INSTRUCTIONS if fields.get(key) is not None), "")
    made = {key: value for key, value in fields.items() if key not in ("contents", "tools", instruction)}
    made["messages"] = [one for turn in contents for one in _turns_of_parts(turn)]
    if instruction:
        system = fields[instruction]
        parts = system.get("parts") if isinstance(system, Mapping) else None
        made["system"] = _joined(parts) if _are_objects(parts) else system
    if fields.get("tools") is not None:
        made["tools"] = _declared(fields["tools"])
    return made


def _turns_of_parts(turn: Mapping[str, Any]) -> list[Turn]:
    role = {"model": ASSISTANT, None: USER, "function": USER}.get(turn.get("role"), turn.get("role"))
    parts = turn.get("parts")
    if not _are_objects(parts):
        return [{"role": role, "content": parts}]
    results: list[Turn] = []
    calls, thoughts, rest = [], [], []
    for part in parts:
        call, response = (_either(part, name) for name in (("functionCall", "function_call"), _RESPONSES))
        if call is not None and role == ASSISTANT:
            calls.append(_call(call.get("name"), call.get("args"), call.get("id")))
        elif response is not None:
            value = response.get("response")
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            name = {"name": response["name"]} if isinstance(response.get("name"), str) else {}
            results.append({**_result(text, response.get("id")), **name})
        elif part.get("thought") is True and isinstance(part.get("text"), str):
            thoughts.append(part["text"])
        elif isinstance(part.get("text"), str):
            rest.append({"type": "text", "text": part["text"]})
        else:
            rest.append({"type": next(iter(part), "part")})
    others = {key: value for key, value in turn.items() if key != "parts"}
    said = _said({**others, "role": role}, rest, calls, thoughts)
    return [*results, *([said] if rest or calls or thoughts or not results else [])]


_RESPONSES = ("functionResponse", "function_response")


def _either(part: Mapping[str, Any], names: Sequence[str]) -> Mapping[str, Any] | None:
    return next((part[name] for name in names if isinstance(part.get(name), Mapping)), None)


def _declared(tools: Any) -> Any:
    """The functions that Gemini's tools declare, with the types of their parameters in lower case."""
    listed = parsed(tools)
    if not _are_objects(listed):
        return tools
    made = []
    for tool in listed:
        declared = next((tool[key] for key in ("functionDeclarations", "function_declarations") if key in tool), None)
        made += [_lowered(each) for each in declared] if _are_objects(declared) else [tool]
    return made


def _lowered(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key: each.lower() if key == "type" and each in _GEMINI_TYPES else _lowered(each)
            for key, each in value.items()
        }
    return [_lowered(each) for each in value] if isinstance(value, list) else value


# ---- both


def _said(turn: Mapping[str, Any], rest: list[Any], calls: list[Turn], thoughts: list[str]) -> Turn:
    """A turn whose blocks are sorted. Texts stay parts only if another kind of block is among them."""
    plain = all(part.get("type", "text") == "text" and isinstance(part.get("text"), str) for part in rest)
    made: Turn = {**turn, "content": _joined(rest) if plain else rest}
    if calls:
        made["tool_calls"] = calls
    if thoughts:
        made["reasoning_content"] = "\n".join(thoughts)
    return made


def _call(name: Any, arguments: Any, number: Any) -> Turn:
    made = {"type": "function", "function": {"name": name, "arguments": arguments or {}}}
    return {"id": number, **made} if isinstance(number, str) else made


def _result(content: Any, number: Any) -> Turn:
    return {"role": "tool", **({"tool_call_id": number} if isinstance(number, str) else {}), "content": content}


def _joined(parts: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(part["text"] for part in parts if isinstance(part.get("text"), str))


def _are_objects(value: Any) -> TypeGuard[list[dict[str, Any]]]:
    return isinstance(value, list) and bool(value) and all(isinstance(each, Mapping) for each in value)
