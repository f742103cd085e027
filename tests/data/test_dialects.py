"""Rows of Anthropic, Gemini and LLaMA-Factory are read as OpenAI's, where their meaning is plain."""

import json
from typing import Any

import pytest

from mlx_suite.data.example import Example
from mlx_suite.data.read.formats import detect, read_example
from mlx_suite.data.read.records import Problem, Record
from mlx_suite.text import Message

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "weather", "description": "Weather", "parameters": SCHEMA}}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}
ANTHROPIC = {
    "system": [{"type": "text", "text": "Be brief."}],
    "tools": [{"name": "weather", "description": "Weather", "input_schema": SCHEMA}],
    "messages": [
        {"role": "user", "content": "Weather in Rome?"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Ask.", "signature": "x"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Rome"}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "18 C"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "18 C."}]},
    ],
}
GEMINI = {
    "systemInstruction": {"parts": [{"text": "Be brief."}]},
    "tools": [
        {
            "functionDeclarations": [
                {
                    "name": "weather",
                    "description": "Weather",
                    "parameters": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}},
                }
            ]
        }
    ],
    "contents": [
        {"role": "user", "parts": [{"text": "Weather in Rome?"}]},
        {
            "role": "model",
            "parts": [
                {"text": "Ask.", "thought": True},
                {"text": "I look."},
                {"functionCall": {"name": "weather", "args": {"city": "Rome"}}},
            ],
        },
        {"role": "user", "parts": [{"functionResponse": {"name": "weather", "response": {"result": "18 C"}}}]},
        {"role": "model", "parts": [{"text": "18 C."}]},
    ],
}
FACTORY = {
    "system": "Be brief.",
    "tools": json.dumps([TOOL["function"]]),
    "conversations": [
        {"from": "human", "value": "Weather in Rome?"},
        {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Rome"}}'},
        {"from": "observation", "value": "18 C"},
        {"from": "gpt", "value": "18 C."},
    ],
}


def read(value: dict[str, Any]) -> Example | tuple[Problem, ...]:
    record = Record("rows.jsonl:1", value)
    form = detect([record])
    assert form is not None
    return read_example(record, form)


def example(value: dict[str, Any]) -> Example:
    found = read(value)
    assert isinstance(found, Example), found
    return found


def turns(value: dict[str, Any]) -> list[dict[str, Any]]:
    found = example(value).tool_turns
    assert found is not None and found.tools == (TOOL,)
    return [dict(turn) for turn in found.turns]


def test_blocks_of_anthropic() -> None:
    assert turns(ANTHROPIC) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather in Rome?"},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [{"id": "c1", **CALL}],
            "reasoning_content": "Ask.",
        },
        {"role": "tool", "content": "18 C", "tool_call_id": "c1"},
        {"role": "assistant", "content": "18 C."},
    ]


def test_parts_of_gemini() -> None:
    assert turns(GEMINI) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather in Rome?"},
        {"role": "assistant", "content": "I look.", "tool_calls": [CALL], "reasoning_content": "Ask."},
        {"role": "tool", "content": '{"result": "18 C"}', "name": "weather"},
        {"role": "assistant", "content": "18 C."},
    ]


def test_calls_and_results_of_llama_factory() -> None:
    assert turns(FACTORY) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather in Rome?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "18 C"},
        {"role": "assistant", "content": "18 C."},
    ]


def test_several_calls_of_llama_factory_are_one_turn() -> None:
    call = {"name": "weather", "arguments": {"city": "Rome"}}
    conversation = [
        FACTORY["conversations"][0],
        {"from": "function_call", "value": json.dumps([call, call])},
        *FACTORY["conversations"][2:],
    ]
    assert turns({**FACTORY, "conversations": conversation})[2]["tool_calls"] == [CALL, CALL]


def test_a_result_and_a_text_of_one_user_turn_are_two_turns() -> None:
    row = {
        "messages": [
            *ANTHROPIC["messages"][:2],
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "18 C"}]},
                    {"type": "text", "text": "And in words?"},
                ],
            },
            {"role": "assistant", "content": "Mild."},
        ]
    }
    assert [(message.role, message.content) for message in example(row).messages[2:]] == [
        ("tool", "18 C"),
        ("user", "And in words?"),
        ("assistant", "Mild."),
    ]


def test_a_conversation_of_gemini_without_tools() -> None:
    contents = [{"parts": [{"text": "Hi"}]}, {"role": "model", "parts": [{"text": "Hello"}]}]
    assert example({"contents": contents}).messages == (Message("user", "Hi"), Message("assistant", "Hello"))


def test_history_is_the_turns_before_the_instruction() -> None:
    row = {
        "instruction": "And 3+3?",
        "input": "Only the number.",
        "output": "6",
        "system": "Add.",
        "history": [["1+1?", "2"], ["2+2?", "4"]],
    }
    found = example(row)
    assert found.context == ""
    assert [(message.role, message.content) for message in found.messages] == [
        ("system", "Add."),
        ("user", "1+1?"),
        ("assistant", "2"),
        ("user", "2+2?"),
        ("assistant", "4"),
        ("user", "And 3+3?\n\nOnly the number."),
        ("assistant", "6"),
    ]


def test_an_empty_history_keeps_the_input_apart() -> None:
    assert example({"instruction": "Add.", "input": "3 and 3", "output": "6", "history": []}).context == "3 and 3"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (
            {"messages": [{"role": "user", "content": [{"type": "image"}, {"type": "thinking"}]}]},
            'turn 1, "content" has a part of type image',
        ),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}]}]},
            "a part of type redacted_thinking",
        ),
        (
            {"contents": [{"role": "user", "parts": [{"inlineData": {}}]}]},
            "a part of type inlineData",
        ),
        (
            {"instruction": "a", "output": "b", "history": "earlier"},
            '"history" is not a list of pairs',
        ),
        (
            {"instruction": "a", "output": "b", "history": [["", "x"]]},
            '"history", pair 1 is empty',
        ),
    ],
)
def test_what_is_no_text_is_reported(row: dict[str, Any], problem: str) -> None:
    found = read(row)
    assert isinstance(found, tuple)
    assert problem in found[0].what
