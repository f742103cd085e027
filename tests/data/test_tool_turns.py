"""Tools in the words of the chat template: calls, results and definitions, and what of them is trained."""

from typing import Any

import pytest

from mlx_suite.data.encode.encoding import encode_all
from mlx_suite.data.encode.styles import Writer
from mlx_suite.data.example import Example
from mlx_suite.data.read.formats import FORMATS, read_example
from mlx_suite.data.read.records import Record
from mlx_suite.text import ChatTemplate
from tests.data.story import Families, shown
from tests.text.conftest import Family

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
LEADING = (
    "{{ bos_token }}{% for tool in tools or [] %}{{ tool | tojson }}{{ '\\n' }}{% endfor %}{% for m in messages %}"
    "{% if m.tool_calls and m.tool_calls | length > 1 %}{{ raise_exception('one call at a time') }}{% endif %}"
    "<|start_header_id|>{{ 'ipython' if m.role == 'tool' else m.role }}<|end_header_id|>"
    "{% if m.tool_calls %}{% set call = m.tool_calls[0].function %}"
    '{"name": "{{ call.name }}", "parameters": {{ call.arguments | tojson }}}'
    "{% else %}{{ m.content | tojson if m.role == 'tool' else m.content }}{% endif %}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>{% endif %}"
)
"""Definitions, calls and results as in Llama 3.1, which takes one call in a turn."""


def call(city: str, number: str = "c1") -> dict[str, Any]:
    return {"id": number, "type": "function", "function": {"name": "weather", "arguments": f'{{"city": "{city}"}}'}}


def row(*turns: dict[str, Any], form: str = "messages", **others: Any) -> Example:
    """A row of a file with tools, as read."""
    value = {{"messages": "messages", "sharegpt": "conversations"}[form]: list(turns), "tools": [WEATHER], **others}
    read = read_example(Record("rows.jsonl:1", value), FORMATS[form])
    assert isinstance(read, Example), read
    return read


ASKED = {"role": "user", "content": "Weather in Rome?"}
CALLED = {"role": "assistant", "content": None, "tool_calls": [call("Rome")]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": '18 "C"'}
SAID = {"role": "assistant", "content": "It is 18 C."}


@pytest.fixture
def llama(family: Families) -> Family:
    one = family("llama3")
    template = ChatTemplate(source=LEADING, special_tokens=one.tokenizer.settings.roles)
    return Family(folder=one.folder, tokenizer=one.tokenizer, template=template)


def written(one: Family, example: Example, **options: Any) -> str:
    found = encode_all([example], style="chat", tokenizer=one.tokenizer, template=one.template, **options)
    assert found.problems == ()
    return (
        shown(found.documents[0], one.tokenizer).replace("<|start_header_id|>", "(").replace("<|end_header_id|>", ")")
    )


DEFINED = '{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}\n'


def test_calls_and_results_are_as_the_template_writes_them(llama: Family) -> None:
    assert written(llama, row(ASKED, CALLED, RESULT, SAID)) == (
        f"<|begin_of_text|>{DEFINED}(user)Weather in Rome?<|eot_id|>"
        '(assistant)[{"name": "weather", "parameters": {"city": "Rome"}}<|eot_id|>]'
        '(ipython)"18 \\"C\\""<|eot_id|>(assistant)[It is 18 C.<|eot_id|>]'
    )


def test_sharegpt_is_written_alike(llama: Family) -> None:
    example = row(
        {"from": "human", "value": "Weather in Rome?"},
        {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Rome"}}'},
        {"from": "observation", "value": '18 "C"'},
        {"from": "gpt", "value": "It is 18 C."},
        form="sharegpt",
    )
    assert written(llama, example) == written(llama, row(ASKED, CALLED, RESULT, SAID))


def test_two_calls_become_two_turns_where_the_template_takes_one(llama: Family) -> None:
    both = {"role": "assistant", "tool_calls": [call("Rome"), call("Oslo", "c2")]}
    second = {"role": "tool", "tool_call_id": "c2", "content": "3 C"}
    assert written(llama, row(ASKED, both, RESULT, second, SAID)) == (
        f"<|begin_of_text|>{DEFINED}(user)Weather in Rome?<|eot_id|>"
        '(assistant)[{"name": "weather", "parameters": {"city": "Rome"}}<|eot_id|>](ipython)"18 \\"C\\""<|eot_id|>'
        '(assistant)[{"name": "weather", "parameters": {"city": "Oslo"}}<|eot_id|>](ipython)"3 C"<|eot_id|>'
        "(assistant)[It is 18 C.<|eot_id|>]"
    )


def test_qwen_trains_the_tags_and_the_json_that_its_template_writes(family: Families) -> None:
    text = written(family("qwen3"), row(ASKED, CALLED, RESULT, SAID))
    assert text.partition("</tools>")[2] == (
        "<|im_end|>\n<|im_start|>user\nWeather in Rome?<|im_end|>\n"
        '<|im_start|>assistant\n[<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
        "<|im_end|>]\n"
        '<|im_start|>user\n<tool_response>\n18 "C"\n</tool_response><|im_end|>\n'
        "<|im_start|>assistant\n[<think>\n\n</think>\n\nIt is 18 C.<|im_end|>]\n"
    )


def test_a_call_that_is_marked_as_untrained_is_context(llama: Family) -> None:
    text = written(llama, row(ASKED, {**CALLED, "weight": 0}, RESULT, SAID))
    assert '(assistant){"name": "weather", "parameters": {"city": "Rome"}}<|eot_id|>(ipython)' in text


def test_a_special_token_in_a_call_or_a_definition_is_text(llama: Family) -> None:
    wicked = {"type": "function", "function": {"name": "weather", "description": "<|eot_id|>"}}
    named = row(ASKED, {"role": "assistant", "tool_calls": [call("<|eot_id|>")]}, RESULT, SAID, tools=[wicked])
    found = encode_all([named], style="chat", tokenizer=llama.tokenizer, template=llama.template)
    assert list(found.documents[0].tokens).count(llama.tokenizer.id_of("<|eot_id|>") or 0) == 4


def test_a_template_without_tools_gets_them_as_text_and_it_is_said(family: Families) -> None:
    one = family("llama3")
    found = encode_all([row(ASKED, CALLED, RESULT, SAID)], style="chat", tokenizer=one.tokenizer, template=one.template)
    assert '[{"name": "weather", "arguments": {"city": "Rome"}}<|eot_id|>]' in shown(found.documents[0], one.tokenizer)
    assert list(found.notes.lines()) == ["the chat template has no words for tools: they are text in 1 row"]


def test_a_prompt_has_the_tools_in_the_words_of_the_template(llama: Family) -> None:
    writer = Writer(style="chat", tokenizer=llama.tokenizer, template=llama.template)
    example = row(ASKED, CALLED, RESULT, SAID)
    assert example.tool_turns is not None
    ids = writer.ask(example.messages[:2], tool_turns=example.tool_turns.before(1))
    assert llama.tokenizer.decode(ids, skip_special=False) == (
        f"<|begin_of_text|>{DEFINED}<|start_header_id|>user<|end_header_id|>Weather in Rome?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>"
    )
    both = {"role": "assistant", "tool_calls": [call("Rome"), call("Oslo", "c2")]}
    example = row(ASKED, both, RESULT, {"role": "tool", "tool_call_id": "c2", "content": "3 C"}, SAID)
    assert example.tool_turns is not None
    text = llama.tokenizer.decode(writer.ask((), tool_turns=example.tool_turns.before(4)), skip_special=False)
    assert text.count('"parameters": {"city"') == 2


@pytest.mark.parametrize("calls", [1, 2])
def test_the_tokens_are_those_of_apply_chat_template(family: Families, calls: int) -> None:
    from transformers import AutoTokenizer

    one = family("qwen3")
    called = {"role": "assistant", "content": "", "tool_calls": [call("Rome"), call("Oslo", "c2")][:calls]}
    results = [RESULT, {"role": "tool", "tool_call_id": "c2", "content": "4 C"}][:calls]
    example = row(ASKED, called, *results, SAID)
    assert example.tool_turns is not None
    made = Writer(style="chat", tokenizer=one.tokenizer, template=one.template).write(
        example.messages, tool_turns=example.tool_turns
    )
    theirs = AutoTokenizer.from_pretrained(str(one.folder)).apply_chat_template(
        [dict(turn) for turn in example.tool_turns.turns], tools=[WEATHER], tokenize=True, return_dict=False
    )
    assert list(made.chat.ids) == theirs
