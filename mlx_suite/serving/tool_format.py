"""How a chat template writes tool calls: in tags, as a leading object, or as lines of JSON."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlx_suite.data.read.conversation import TOOL
from mlx_suite.runtime.errors import UserError
from mlx_suite.serving.chat import ChatMessage, Tool
from mlx_suite.text import ChatTemplate
from mlx_suite.text.message import ASSISTANT, USER


@dataclass(frozen=True, kw_only=True)
class ToolFormat:
    """A way of writing calls."""

    kind: Literal["tagged", "leading", "lines"]
    """`tagged`: each call in tags, after any text. `leading`: a call begins the response. `lines`: a line per call."""
    arguments: str
    """Key of a call's arguments."""
    open: str
    """Text that begins a call."""
    close: str = ""
    """Text that ends it."""
    prefix: str = ""
    """Token that may stand before calls."""
    ends: tuple[str, ...] = ()
    """Stop tokens of a response with a call, beside the usual ones."""

    @property
    def markers(self) -> tuple[str, ...]:
        """Texts that may be special tokens of the vocabulary, and must then be sampled and shown."""
        return tuple(filter(None, (self.open, self.close, self.prefix)))


TAGGED = ToolFormat(kind="tagged", arguments="arguments", open="<tool_call>", close="</tool_call>")
"""Qwen 2.5 and 3, Hermes."""
LEADING = ToolFormat(
    kind="leading", arguments="parameters", open='{"name"', prefix="<|python_tag|>", ends=("<|eom_id|>",)
)
"""Llama 3.1, 3.2 and 3.3. The token before is that of the built-in tools; some models write it before any call."""
LINES = ToolFormat(kind="lines", arguments="arguments", open='{"name"')
"""For templates without tools, and for formats that are not known: as our data pipeline writes calls for training."""

PROBE = Tool(name="probe_tool", description="probe description", parameters={"type": "object", "properties": {}})
RESULT = "probe result"


def format_of(template: ChatTemplate | None) -> ToolFormat:
    """The format of a template, by how it writes a definition, a call and its result."""
    if template is None:
        return LINES
    turns: list[Mapping[str, Any]] = [
        {"role": USER, "content": "Hi"},
        {"role": ASSISTANT, "content": "", "tool_calls": [_call("call_1", PROBE.name, {"probe_key": 7})]},
        {"role": TOOL, "content": RESULT, "tool_call_id": "call_1", "name": PROBE.name},
    ]
    try:
        text = template.render_turns(turns, tools=[definition(PROBE)], add_generation_prompt=True)
    except UserError:
        return LINES
    if PROBE.description not in text or RESULT not in text:
        return LINES
    for known in (TAGGED, LEADING):
        opening = known.open if known.close else ""
        if re.search(rf'{opening}\s*{{"name": "{PROBE.name}", "{known.arguments}": {{"probe_key": 7}}}}', text):
            return known
    return LINES


def definition(tool: Tool) -> Mapping[str, Any]:
    """A tool in OpenAI's form."""
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}


def turns_of(messages: Sequence[ChatMessage]) -> list[Mapping[str, Any]]:
    """Turns in OpenAI's form, for a template that takes tools."""
    names = call_names(messages)
    turns: list[Mapping[str, Any]] = []
    for message in messages:
        turn: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.tool_calls:
            turn["tool_calls"] = [_call(call.id, call.name, parsed(call.arguments)) for call in message.tool_calls]
        if message.role == TOOL:
            turn |= {"tool_call_id": message.tool_call_id, "name": names.get(message.tool_call_id, "")}
        turns.append(turn)
    return turns


def one_call_each(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """The messages with one turn for each call and its result after it, for templates that take one call in a turn."""
    results = {message.tool_call_id: message for message in messages if message.role == TOOL}
    placed: set[str] = set()
    split: list[ChatMessage] = []
    for message in messages:
        if len(message.tool_calls) < 2:
            if message.role != TOOL or message.tool_call_id not in placed:
                split.append(message)
            continue
        for number, call in enumerate(message.tool_calls):
            content = message.content if number == 0 else ""
            split.append(ChatMessage(role=message.role, content=content, tool_calls=(call,)))
            if call.id in results:
                split.append(results[call.id])
                placed.add(call.id)
    return split


def call_names(messages: Sequence[ChatMessage]) -> dict[str, str]:
    """Names of the called tools by the ids of the calls."""
    return {call.id: call.name for message in messages for call in message.tool_calls}


def parsed(arguments: str) -> Any:
    """Arguments as an object; as the text itself if it is not JSON."""
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


def _call(index: str, name: str, arguments: Any) -> Mapping[str, Any]:
    return {"id": index, "type": "function", "function": {"name": name, "arguments": arguments}}
