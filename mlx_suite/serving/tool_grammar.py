"""Grammars of responses with tool calls, schemas and thoughts, in llguidance's dialect of Lark."""

import json
import re
from collections.abc import Sequence
from typing import Literal

from mlx_suite.serving.chat import Tool
from mlx_suite.serving.grammar import Schema, guided, schema_problem
from mlx_suite.serving.tool_format import ToolFormat

Thoughts = Literal["open", "allowed", "none"]
"""Whether the prompt has opened <think>, the model may open it, or does not think."""
THOUGHT_RULES = r"""
thought[lazy]: /(?s:.*)<\/think>/
GAP: /[\n]*/
"""
ANY_OBJECT: Schema = {"type": "object"}


def response_grammar(
    format: ToolFormat,
    tools: Sequence[Tool],
    *,
    required: bool,
    single: bool,
    schema: Schema | None,
    thoughts: Thoughts,
    prefix: int | None = None,
) -> str | None:
    """The grammar of a response; None if nothing is to be constrained.

    Args:
        format: How calls are written.
        tools: Tools that may be called.
        required: Whether the response must be one or more calls.
        single: Whether it must be exactly one.
        schema: JSON schema of a response without calls.
        thoughts: What may stand before the response.
        prefix: Id of the format's prefix, if that is a special token.
    """
    rules = [_calls(format, tools, single)] if tools else []
    before = "" if prefix is None or not tools else f"<[{prefix}]>? "
    if tools and required:
        main = "calls"
    elif schema is not None:
        main = "calls | json" if tools else "json"
        rules.append(f"json: {_json(schema)}")
    elif tools and format.kind == "tagged":
        main = "(opened body)* REST"
        rules += [f"opened[lazy]: /(?s:.*){_literal(format.open)}/", "REST: /(?s:.*)/"]
    elif tools and format.kind == "leading":
        main = "calls | FREE"
        rules.append(f"FREE: /(?s:.*)/ & ~/(?s:{_begun(format, tools)}.*)/")
    else:
        return None
    start = "main"
    if thoughts == "open":
        start = "thought GAP main"
    elif thoughts == "allowed" and (required or schema is not None):
        start = 'main | "<think>" thought GAP main'
    if "thought" in start:
        rules.append(THOUGHT_RULES)
    return "\n".join([f"start: {start}", f"main: {before}({main})", *rules]) + "\n"


def _calls(format: ToolFormat, tools: Sequence[Tool], single: bool) -> str:
    """Rules `calls` for a whole response of calls, and `body` for a call after its opening tag."""
    between = {"tagged": "\\n", "lines": "\\n", "leading": None}[format.kind]
    several = "" if single or between is None else f' ("{between}" call)*'
    named = " | ".join(f"call_{number}" for number in range(len(tools)))
    rules = [f"calls: call{several}"]
    if format.close:
        rules += [
            f"call: {json.dumps(format.open)} body",
            f"body: {json.dumps(chr(10))} ({named}) {json.dumps(chr(10) + format.close)}",
        ]
    else:
        rules.append(f"call: {named}")
    for number, tool in enumerate(tools):
        begin = f'{{"name": {json.dumps(tool.name, ensure_ascii=False)}, "{format.arguments}": '
        rules.append(
            f'call_{number}: {json.dumps(begin, ensure_ascii=False)} {_json(_arguments(tool), lenient=True)} "}}"'
        )
    return "\n".join(rules)


def _arguments(tool: Tool) -> Schema:
    """The schema of a tool's arguments: any object if it has parts that cannot be compiled."""
    schema: Schema = {"type": "object", **tool.parameters}
    return ANY_OBJECT if schema_problem(schema, lenient=True) else schema


def _json(schema: Schema, *, lenient: bool = False) -> str:
    return f"%json {json.dumps(guided(schema, lenient=lenient))}"


def _begun(format: ToolFormat, tools: Sequence[Tool]) -> str:
    """Expression for a text that can only be a call: the name of a tool, and the key of its arguments."""
    names = "|".join(_literal(json.dumps(tool.name, ensure_ascii=False)) for tool in tools)
    return _literal('{"name": ') + f"({names})" + _literal(f', "{format.arguments}":')


def _literal(text: str) -> str:
    """A text in a regular expression between slashes."""
    return re.sub(r"[^A-Za-z0-9_ \"',:-]", lambda match: f"\\x{{{ord(match[0]):x}}}", text)
