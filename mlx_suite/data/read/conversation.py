"""Conversations: lists of turns in OpenAI's or ShareGPT's format, read as messages and checked.

A tool call becomes text of the assistant, one line of JSON per call. Tool definitions are appended to the system
prompt. A tool result keeps the role `tool`; `fold_tools` converts it for chat templates without that role.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_suite.data.read.records import Faults, described, instruction_text, optional_text, required_text, response_text
from mlx_suite.text import Message
from mlx_suite.text.message import ASSISTANT, SYSTEM, USER

TOOL = "tool"
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
OPENAI_ROLES = {
    "system": SYSTEM,
    "developer": SYSTEM,
    "user": USER,
    "assistant": ASSISTANT,
    "tool": TOOL,
    "function": TOOL,
}
SHAREGPT_ROLES = {
    "human": USER,
    "gpt": ASSISTANT,
    **OPENAI_ROLES,
    "chatgpt": ASSISTANT,
    "bing": ASSISTANT,
    "bard": ASSISTANT,
    "model": ASSISTANT,
    "function_call": ASSISTANT,
    "observation": TOOL,
    "function_response": TOOL,
}


TRAINED_KEYS = ("weight", "train", "training")
"""Keys of a turn that say whether it is trained: OpenAI's, ours, Axolotl's."""
UNTRAINED_KEYS = ("masked",)
"""Keys of a turn that say whether it is not trained: torchtune's."""
TURN_KEYS = frozenset(
    ("role", "from", "content", "value", "tool_calls", "function_call", "tool_call_id", "name")
    + (*REASONING_KEYS, *TRAINED_KEYS, *UNTRAINED_KEYS)
)
"""All keys of a turn that are read. The id of a tool call only links a result to it."""
EMPTY: tuple[Any, ...] = (None, "", [], {})
"""Values that say nothing."""


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """Keys and role names of a format."""

    role_keys: tuple[str, ...] = ("role",)
    text_keys: tuple[str, ...] = ("content",)
    roles: Mapping[str, str]
    """Role of Message for each role name of the format."""
    alternating: bool = False
    """Whether two consecutive turns of one role are a fault. In ShareGPT they mean that a turn is missing."""


Numbered = list[tuple[int, Message]]
"""Messages with the number of their turn in the row, starting at 1."""


def read_turns(value: Any, label: str, spelling: Spelling, faults: Faults) -> tuple[Message, ...]:
    """Read the messages of a list of turns, or of its JSON text; appends what is wrong to `faults`."""
    turns = _list(value, label, faults)
    if turns is None:
        return ()
    known: Numbered = []
    all_known = True
    for number, turn in enumerate(turns, start=1):
        message = _message(turn, f"turn {number}", spelling, faults)
        if message is None:
            all_known = False
        elif message.role != SYSTEM or message.content.strip():
            known.append((number, message))
    # The order of roles can be checked only if all of them are known.
    if all_known:
        _check_order(known, spelling, faults)
    return tuple(message for _, message in known)


def _list(value: Any, label: str, faults: Faults) -> list[Any] | None:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            faults.append(f"{label} is text, but not JSON ({error}); expected a list of turns")
            return None
    if not isinstance(value, list):
        faults.append(f"{label} is {described(value)}; expected a list of turns")
        return None
    if not value:
        faults.append(f"{label} is empty; expected a list of turns")
        return None
    return value


def _message(turn: Any, label: str, spelling: Spelling, faults: Faults) -> Message | None:
    """One turn as a message; None if its role is unknown."""
    if not isinstance(turn, dict):
        faults.append(f"{label} is {described(turn)}; expected {_shape(spelling)}")
        return None
    role_key = present(turn, spelling.role_keys)
    if role_key is None:
        keys = ", ".join(map(_json_text, turn)) or "nothing"
        faults.append(f"{label} has no role; expected {_shape(spelling)}, found {keys}")
        return None
    name = turn[role_key]
    role = spelling.roles.get(name.lower() if spelling.alternating else name) if isinstance(name, str) else None
    if role is None:
        faults.append(f'{label}: unknown "{role_key}" {_shown(name)}; {_nearest(name, spelling)}')
        return None
    content = _content(turn, role, label, spelling, faults)
    return Message(role, content, trained(turn, label, faults), reasoning_of(turn) if role == ASSISTANT else "")


def reasoning_of(turn: Mapping[str, Any]) -> str:
    """The reasoning that a response keeps in a key of its own."""
    return next((turn[key].strip() for key in REASONING_KEYS if isinstance(turn.get(key), str)), "")


def _shape(spelling: Spelling) -> str:
    return f'{{"{spelling.role_keys[0]}": …, "{spelling.text_keys[0]}": …}}'


def present(turn: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    """The first of these keys with a value."""
    return next((key for key in keys if turn.get(key) is not None), None)


def _shown(value: Any) -> str:
    return repr(value[:40]) if isinstance(value, str) else described(value)


def _nearest(name: Any, spelling: Spelling) -> str:
    near = difflib.get_close_matches(str(name).lower(), spelling.roles, n=1)
    common = "human, gpt, system or tool" if "human" in spelling.roles else "system, user, assistant or tool"
    return f"did you mean {near[0]}?" if near else f"expected {common}"


def _content(turn: Mapping[str, Any], role: str, label: str, spelling: Spelling, faults: Faults) -> str:
    key = present(turn, spelling.text_keys)
    value = turn[key] if key else None
    label = f'{label}, "{key or spelling.text_keys[0]}"'
    if isinstance(value, list):
        value = joined_parts(value, label, faults)
        if value is None:
            return ""
    if role == SYSTEM and isinstance(value, str):
        return optional_text(value, label, faults)
    calls = calls_of(turn) if role == ASSISTANT else ()
    if calls:
        before = optional_text(value, label, faults)
        return required_text("\n".join([*([before] if before else []), *map(call_line, calls)]), label, faults)
    read = {ASSISTANT: response_text, USER: instruction_text}.get(role, required_text)
    content = read(value, label, faults)
    name = turn.get("name")
    return f"{name}: {content}" if role == TOOL and content and isinstance(name, str) and name else content


def joined_parts(parts: list[Any], label: str, faults: Faults) -> str | None:
    """The text of `[{"type": "text", "text": …}, …]`; None if a part is not text."""
    texts = []
    for part in parts:
        text = part.get("text") if isinstance(part, dict) and part.get("type", "text") == "text" else None
        if not isinstance(text, str):
            kind = part.get("type") if isinstance(part, dict) else None
            other = f"a part of type {kind}" if isinstance(kind, str) and kind != "text" else "a part without text"
            faults.append(f'{label} has {other}; expected text, or parts {{"type": "text", "text": …}}')
            return None
        texts.append(text)
    return "\n".join(texts)


def calls_of(turn: Mapping[str, Any]) -> Sequence[Any]:
    """Tool calls in OpenAI's format, or the single call of its older format."""
    calls = turn.get("tool_calls")
    if isinstance(calls, list) and calls:
        return calls
    call = turn.get("function_call")
    return (call,) if isinstance(call, dict) else ()


def call_line(call: Any) -> str:
    """A tool call as one line of JSON without ids: `{"name": "weather", "arguments": {"city": "Rome"}}`."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        function = call
    if not isinstance(function, dict):
        return _json_text(function)
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            pass  # Some models write arguments that are not JSON; they are kept as text.
    return call_text(function.get("name"), arguments)


def call_text(name: Any, arguments: Any) -> str:
    """A tool call as text of the assistant, for chat templates without tools."""
    return _json_text({"name": name, "arguments": arguments})


def tools_text(tools: Sequence[Any]) -> str:
    """Tool definitions as part of a system prompt, for chat templates without tools."""
    return "\n".join(["Tools:", *map(_json_text, tools)])


def with_tools(messages: Sequence[Message], text: str) -> tuple[Message, ...]:
    """The messages with `text`, the definitions of tools, at the end of the system prompt."""
    if messages and messages[0].role == SYSTEM:
        first, *rest = messages
        return (Message(SYSTEM, f"{first.content}\n\n{text}", first.trained), *rest)
    return (Message(SYSTEM, text), *messages)


def _json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def trained(turn: Mapping[str, Any], label: str, faults: Faults) -> bool:
    """Whether a turn is trained, by its own keys: see `TRAINED_KEYS` and `UNTRAINED_KEYS`."""
    is_trained = True
    for key in (*TRAINED_KEYS, *UNTRAINED_KEYS):
        value = turn.get(key)
        if value is None:
            continue
        if not isinstance(value, int | float) or value not in (0, 1):
            faults.append(f'{label}, "{key}" is {_shown(value)}; expected 0 or 1')
        is_trained = is_trained and bool(value) is (key in TRAINED_KEYS)
    return is_trained


def unread_turn_keys(value: Any) -> set[str]:
    """Keys with a value in a list of turns, or in its JSON text, that `read_turns` does not read."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return set()
    turns = [turn for turn in value if isinstance(turn, dict)] if isinstance(value, list) else []
    return {key for turn in turns for key, each in turn.items() if key not in TURN_KEYS and each not in EMPTY}


def _check_order(turns: Numbered, spelling: Spelling, faults: Faults) -> None:
    """Append faults if there is nothing to learn, or if turns are missing or out of order."""
    for place, (number, message) in enumerate(turns):
        if message.role == SYSTEM and place > 0:
            faults.append(f"turn {number}: the system prompt is not first; expected it before all other turns")
    if spelling.alternating:
        for (number, message), (following, other) in zip(turns, turns[1:], strict=False):
            if message.role == other.role and message.role in (USER, ASSISTANT):
                faults.append(f"turns {number} and {following} both have the role {message.role}; roles must alternate")
    roles = [message.role for _, message in turns]
    if ASSISTANT not in roles:
        faults.append("there is no assistant turn; expected a response to learn")
    elif roles == [ASSISTANT]:
        faults.append("there is nothing before the response; expected an instruction")
    elif roles[-1] == USER:
        faults.append("ends with a user turn; expected a response at the end")
    elif roles[-1] == TOOL:
        faults.append("ends with a tool result; expected a response at the end")


def read_tools(messages: tuple[Message, ...], tools: Any, faults: Faults) -> tuple[Message, ...]:
    """Append the tool definitions to the system prompt, one line of JSON each."""
    if isinstance(tools, str):
        try:
            tools = json.loads(tools)
        except (ValueError, RecursionError):
            tools = None
    if not isinstance(tools, list):
        faults.append('"tools" is not a list; expected tool definitions')
        return messages
    if not tools:
        return messages
    return with_tools(messages, required_text(tools_text(tools), '"tools"', faults))
