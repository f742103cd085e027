"""What a response may be: calls, text or JSON, by format and choice of tools."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken
from tokenizers import Tokenizer as Library

from mlx_suite.serving.chat import Tool
from mlx_suite.serving.grammar import GrammarConstraint, lark_grammar
from mlx_suite.serving.tool_format import LEADING, LINES, TAGGED, ToolFormat
from mlx_suite.serving.tool_grammar import response_grammar
from mlx_suite.text import load_tokenizer
from tests.serving.tool_templates import MODELS, chat_model

TOKENIZER = chat_model().tokenizer
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = (Tool(name="weather", parameters={**CITY, "additionalProperties": False}), Tool(name="time"))
ROME = '{"name": "weather", "arguments": {"city": "Rome"}}'
NOON = '{"name": "time", "arguments": {}}'


def accepts(format: ToolFormat, text: str, **changes: Any) -> bool:
    """Whether a response may be exactly this text."""
    one, ids = constraint(format, **changes), TOKENIZER.encode(text)
    masks = [one.allowed(ids[:place]) for place in range(len(ids) + 1)]
    stop = sorted(TOKENIZER.stop_ids)
    return all(masks[place][index] for place, index in enumerate(ids)) and bool(masks[-1][stop].all())


def constraint(format: ToolFormat, **changes: Any) -> GrammarConstraint:
    """The constraint of a response."""
    settings = {"required": False, "single": False, "schema": None, "thoughts": "none", "tools": TOOLS, **changes}
    lark = response_grammar(format, **settings)
    assert lark is not None
    return lark_grammar(TOKENIZER, TOKENIZER.vocab_size, lark).constraint(sorted(TOKENIZER.stop_ids))


def called(format: ToolFormat, *calls: str) -> str:
    if format.close:
        return "\n".join(f"{format.open}\n{call}\n{format.close}" for call in calls)
    return "\n".join(call.replace("arguments", format.arguments) for call in calls)


@pytest.mark.parametrize("format", [TAGGED, LEADING, LINES], ids=lambda format: format.kind)
def test_a_required_response_is_a_call_of_a_tool_by_its_schema(format: ToolFormat) -> None:
    assert accepts(format, called(format, ROME), required=True)
    assert accepts(format, called(format, NOON), required=True)
    assert not accepts(format, "Hello.", required=True)
    assert not accepts(format, called(format, ROME.replace("city", "town")), required=True)
    assert not accepts(format, called(format, NOON.replace("time", "date")), required=True)


@pytest.mark.parametrize("format", [TAGGED, LINES], ids=lambda format: format.kind)
def test_a_named_tool_is_called_once_and_a_required_one_may_be_called_often(format: ToolFormat) -> None:
    assert accepts(format, called(format, ROME, NOON), required=True)
    assert not accepts(format, called(format, NOON, NOON), required=True, single=True)


def test_text_is_free_until_a_tag_and_a_call_may_follow() -> None:
    assert accepts(TAGGED, "Tags look like <tool> or <tool_c.")
    assert accepts(TAGGED, f"I look.\n{called(TAGGED, ROME)}\n{called(TAGGED, NOON)}")
    assert not accepts(TAGGED, "I look.\n<tool_call>\nweather(Rome)\n</tool_call>")


def test_a_leading_object_is_a_call_only_with_the_name_of_a_tool() -> None:
    assert accepts(LEADING, called(LEADING, ROME))
    assert accepts(LEADING, '{"name": "Ada", "age": 36}')
    assert accepts(LEADING, "Hello.")
    assert not accepts(LEADING, called(LEADING, ROME).replace("city", "town"))


def test_a_call_may_follow_the_token_of_built_in_tools() -> None:
    python = TOKENIZER.id_of("<|python_tag|>")
    for required in (False, True):
        one = constraint(LEADING, required=required, prefix=python)
        assert python is not None and one.allowed([])[python]
        assert not one.allowed(TOKENIZER.encode('{"name": "time"'))[python]
        call = TOKENIZER.encode(called(LEADING, NOON))
        assert one.allowed([python, *call])[sorted(TOKENIZER.stop_ids)].all()


@pytest.mark.parametrize("special", [False, True])
def test_a_tag_that_is_one_token_is_written_as_that_token(special: bool, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(MODELS / "tiny-llama3", folder)
    (folder / "config.json").unlink()
    library = Library.from_file(str(folder / "tokenizer.json"))
    library.add_tokens([AddedToken(tag, special=special, normalized=False) for tag in (TAGGED.open, TAGGED.close)])
    library.save(str(folder / "tokenizer.json"))
    tokenizer = load_tokenizer(folder)
    tag = tokenizer.id_of(TAGGED.open)
    assert tag is not None and (tag in tokenizer.special_ids) == special
    for required in (True, False):
        lark = response_grammar(TAGGED, TOOLS, required=required, single=False, schema=None, thoughts="none")
        assert lark is not None
        one = lark_grammar(tokenizer, tokenizer.vocab_size, lark).constraint(sorted(tokenizer.stop_ids))
        assert one.allowed([])[tag]
        assert list(one.forced([])[:1]) == ([tag] if required else [])
        assert tokenizer.decode(one.forced([tag])).startswith('\n{"name": "')


def test_lines_are_not_constrained_unless_a_call_is_required() -> None:
    assert response_grammar(LINES, TOOLS, required=False, single=False, schema=None, thoughts="none") is None


def test_with_a_schema_a_response_is_json_or_a_call() -> None:
    schema = {"enum": [1, 2]}
    assert accepts(TAGGED, "2", schema=schema)
    assert accepts(TAGGED, called(TAGGED, ROME), schema=schema)
    assert not accepts(TAGGED, "Hello.", schema=schema)
    assert not accepts(TAGGED, "2", schema=schema, required=True)


def test_thoughts_come_before_what_is_constrained() -> None:
    schema = {"enum": [1, 2]}
    assert accepts(TAGGED, "One? Two.\n</think>\n\n2", schema=schema, tools=(), thoughts="open")
    assert not accepts(TAGGED, "2", schema=schema, tools=(), thoughts="open")
    assert accepts(TAGGED, "2", schema=schema, tools=(), thoughts="allowed")
    assert accepts(TAGGED, "<think>Two.</think>2", schema=schema, tools=(), thoughts="allowed")
    assert accepts(TAGGED, f"Hm.</think>\n{called(TAGGED, NOON)}", required=True, thoughts="open")


def test_arguments_whose_schema_cannot_be_compiled_are_any_object() -> None:
    odd = Tool(name="time", parameters={"properties": {"zone": {"type": "string", "pattern": "(?=x)"}}})
    assert accepts(TAGGED, called(TAGGED, NOON), tools=(odd,), required=True)
    lenient = Tool(name="time", parameters={"properties": {"zone": {"type": "array", "uniqueItems": True}}})
    assert not accepts(TAGGED, called(TAGGED, NOON.replace("{}", '{"zone": 1}')), tools=(lenient,), required=True)


def test_names_with_odd_letters_are_literal() -> None:
    odd = Tool(name='a.b*"é')
    call = '{"name": "a.b*\\"é", "parameters": {}}'
    assert accepts(LEADING, call, tools=(odd,))
    assert not accepts(LEADING, call.replace("{}", "1"), tools=(odd,))
    assert accepts(LEADING, call.replace("a.b", "axb").replace("{}", "1"), tools=(odd,))
