"""What a client is told of a response, however its text arrives."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_suite.serving.chat import ReasoningDelta, TextDelta, ToolCallDelta
from mlx_suite.serving.generation import Token
from mlx_suite.serving.response_reader import ResponseReader
from mlx_suite.serving.tool_format import LEADING, LINES, TAGGED, ToolFormat

FORMATS = {"tagged": TAGGED, "leading": LEADING, "lines": LINES, "none": None}
ROME = '{"name": "weather", "arguments": {"city": "Rome"}}'
NOON = '{"name": "time", "parameters": {}}'

Story = list[tuple[str, str]]


def told(format: ToolFormat | None, *pieces: str, thinking: bool = False) -> Story:
    """Kind and text of the events, adjacent ones joined."""
    reader = ResponseReader(format=format, tools={"weather", "time"}, thinking=thinking)
    parts = [part for piece in pieces for part in reader.read(piece)] + reader.finish()
    story: Story = []
    for number, part in enumerate(parts):
        if isinstance(part, ToolCallDelta):
            assert part.call.id.startswith("call_")
            assert part.index == sum(isinstance(each, ToolCallDelta) for each in parts[:number])
            story.append((part.call.name, part.call.arguments))
            continue
        kind = "text" if isinstance(part, TextDelta) else "thought"
        before = story.pop()[1] if story and story[-1][0] == kind else ""
        story.append((kind, before + part.text))
    return story


def test_a_plain_response_is_passed_on_as_it_arrives() -> None:
    reader = ResponseReader()
    assert reader.read("Hel") == [TextDelta(choice=0, text="Hel")]
    assert reader.read("lo\n") == [TextDelta(choice=0, text="lo\n")]
    assert reader.finish() == []


def test_thoughts_come_before_the_text_without_their_tags() -> None:
    assert told(None, "<think>\nTwo and two.\n</think>\n\nFour.") == [("thought", "Two and two."), ("text", "Four.")]
    assert told(None, "Two.\n</think>\n4", thinking=True) == [("thought", "Two."), ("text", "4")]
    assert told(None, "<think>Never clo") == [("thought", "Never clo")]


def test_only_a_response_that_begins_with_the_tag_thinks() -> None:
    assert told(None, "The tag <think> opens a thought.") == [("text", "The tag <think> opens a thought.")]


def test_a_split_tag_is_not_shown() -> None:
    reader = ResponseReader(format=TAGGED)
    assert reader.read("I look. <tool") == [TextDelta(choice=0, text="I look.")]
    assert reader.read("_ca") == []
    assert reader.read("n opener> is rare.") == [TextDelta(choice=0, text=" <tool_can opener> is rare.")]


def test_calls_in_tags_follow_the_text() -> None:
    text = f"Let me see.\n<tool_call>\n{ROME}\n</tool_call>\n<tool_call>\n{NOON}\n</tool_call>\n"
    assert told(TAGGED, text) == [("text", "Let me see."), ("weather", '{"city": "Rome"}'), ("time", "{}")]


def test_a_call_may_end_without_its_closing_tag() -> None:
    assert told(TAGGED, f"<tool_call>\n{ROME}\n") == [("weather", '{"city": "Rome"}')]


def test_a_closing_tag_in_an_argument_is_part_of_it() -> None:
    call = '{"name": "weather", "arguments": {"city": "</tool_call>"}}'
    assert told(TAGGED, f"<tool_call>{call}</tool_call>") == [("weather", '{"city": "</tool_call>"}')]


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>\n{'name': 1}\n</tool_call>",
        "<tool_call>\nweather(Rome)\n</tool_call>",
        '<tool_call>\n{"name": "weather", "argum',
        f"<tool_call>\n{ROME} and more\n</tool_call>",
        '<tool_call>\n{"name": "weather", "arguments": 3}\n</tool_call>',
    ],
)
def test_what_is_not_a_call_stays_text(text: str) -> None:
    assert told(TAGGED, "See:\n" + text) == [("text", "See:\n" + text)]


def test_a_call_after_a_broken_one_is_found() -> None:
    text = f"<tool_call>\nweather(\n</tool_call>\n<tool_call>\n{NOON}\n</tool_call>"
    assert told(TAGGED, text) == [("text", "<tool_call>\nweather(\n</tool_call>"), ("time", "{}")]


def test_a_leading_object_with_the_name_of_a_tool_is_a_call() -> None:
    assert told(LEADING, NOON) == [("time", "{}")]
    assert told(LEADING, f"<|python_tag|>{NOON}; {ROME}") == [("time", "{}"), ("weather", '{"city": "Rome"}')]
    typed = '{"type": "function", "name": "time", "parameters": {}}'
    assert told(LEADING, typed) == [("time", "{}")]


def test_other_leading_objects_are_text() -> None:
    for text in ('{"answer": 42}', '{"name": "Ada", "parameters": {}}', '{"name": "time"}', "{", "Hello {", ""):
        assert told(LEADING, text) == ([("text", text)] if text else [])


def test_an_object_that_cannot_be_a_call_is_not_held_back() -> None:
    reader = ResponseReader(format=LEADING, tools={"time"})
    assert reader.read('{"answer') == []
    assert reader.read('": 4') == [TextDelta(choice=0, text='{"answer": 4')]


def test_lines_of_json_are_calls_and_json_inside_a_line_is_text() -> None:
    text = f'I look.\n{ROME}\n{{"name": "time", "arguments": {{}}}}'
    assert told(LINES, text) == [("text", "I look."), ("weather", '{"city": "Rome"}'), ("time", "{}")]
    assert told(LINES, f"Write {ROME}") == [("text", f"Write {ROME}")]
    assert told(LINES, f"{ROME} works") == [("text", f"{ROME} works")]


def test_tokens_go_to_the_next_event_and_none_is_lost() -> None:
    one, two, three = (Token(id=index) for index in (1, 2, 3))
    reader = ResponseReader(format=TAGGED, tools={"time"})
    assert reader.read("<tool_call>", [one]) == []
    assert reader.read(f"{NOON}</tool", [two]) == []
    [call] = reader.read("_call>", [three])
    assert isinstance(call, ToolCallDelta) and call.tokens == (one, two, three)
    assert reader.read("\n", [one]) == []
    assert reader.finish() == [TextDelta(choice=0, text="", tokens=(one,))]


TEXTS = st.lists(
    st.sampled_from(
        ["<think>", "</think>", "<tool_call>", "</tool_call>", "<|python_tag|>", "<", "<tool", "_call>", "\n", " ", "{"]
        + [ROME, NOON, '{"name": "', '"}', "}", "Hi", '"', "\\", ";", "weather"]
    ),
    max_size=9,
).map("".join)


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data(), text=TEXTS, thinking=st.booleans())
def test_any_split_of_the_text_tells_the_same(name: str, data: Any, text: str, thinking: bool) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole = told(FORMATS[name], text, thinking=thinking)
    assert told(FORMATS[name], *pieces, thinking=thinking) == whole
    assert told(FORMATS[name], *text, thinking=thinking) == whole


@given(text=TEXTS)
def test_no_letter_of_a_response_without_calls_is_lost(text: str) -> None:
    story = told(TAGGED, "See: " + text)
    assert any(kind != "text" for kind, _ in story) or story == [("text", "See: " + text)]


def test_reasoning_deltas_carry_the_choice() -> None:
    reader = ResponseReader(2, thinking=True)
    assert reader.read("a b") == [ReasoningDelta(choice=2, text="a b")]
