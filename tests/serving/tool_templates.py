"""Chat templates with tools in the forms of Llama 3.2 and Qwen 3, with the special tokens of tiny-llama3."""

from dataclasses import replace
from functools import cache
from pathlib import Path

from mlx_suite.engine.chat_model import ChatModel
from mlx_suite.text import ChatTemplate, load_chat_template, load_tokenizer

MODELS = Path(__file__).parents[2] / "models"

LEADING = r"""{{- bos_token }}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {{- '<|start_header_id|>ipython<|end_header_id|>\n\n' + message.content | tojson + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if message.tool_calls | length != 1 %}
            {{- raise_exception('one call at a time') }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
        {{- '{"name": "' + call.name + '", "parameters": ' + call.arguments | tojson + '}<|eot_id|>' }}
    {%- else %}
        {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' }}
        {%- if tools is not none and message.role == 'user' and loop.first %}
            {%- for tool in tools %}
                {{- tool | tojson(indent=1) + '\n\n' }}
            {%- endfor %}
        {%- endif %}
        {{- message.content | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"""
TAGGED = r"""{{- bos_token }}
{%- if tools %}
    {{- '<|start_header_id|>system\n' }}
    {%- for tool in tools %}
        {{- tool | tojson + '\n' }}
    {%- endfor %}
    {{- 'Write <tool_call></tool_call>.<|eot_id|>' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|start_header_id|>' + ('user' if message.role == 'tool' else message.role) + '\n' }}
    {%- if message.role == 'tool' %}
        {{- '<tool_response>\n' + message.content + '\n</tool_response>' }}
    {%- else %}
        {{- message.content }}
    {%- endif %}
    {%- for call in message.tool_calls or [] %}
        {{- '\n<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' }}
        {{- call.function.arguments | tojson + '}\n</tool_call>' }}
    {%- endfor %}
    {{- '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant\n' }}
{%- endif %}
"""
THINKING = TAGGED.replace("<|start_header_id|>assistant\\n' }}", "<|start_header_id|>assistant\\n<think>\\n' }}")
"""The same, whose prompt opens <think>."""


@cache
def chat_model(template: str | None = None) -> ChatModel:
    """A chat model without weights: tiny-llama3's tokenizer, with its own template or another."""
    folder = MODELS / "tiny-llama3"
    own = load_chat_template(folder)
    return ChatModel(
        tokenizer=load_tokenizer(folder),
        template=own if template is None else replace(own, source=template),
        max_context=512,
        name="tiny-llama3",
    )


def with_source(source: str) -> ChatTemplate:
    """A template with tiny-llama3's special tokens."""
    return replace(load_chat_template(MODELS / "tiny-llama3"), source=source)


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
