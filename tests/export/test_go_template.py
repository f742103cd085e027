"""Ollama's rendering of a conversation equals that of the checkpoint's template."""

from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_suite.export.go_template import Turns, go_template, read_turns
from mlx_suite.text import ChatTemplate, Message, Tokenizer, fold_system, load_tokenizer
from tests.export import go

HERE = Path(__file__).parents[1]
TEMPLATES = HERE / "text" / "templates"
ROLES = {"bos_token": "<s>", "eos_token": "</s>"}
FAMILIES = ("llama3", "llama31", "gemma2", "mistral", "qwen2", "phi3")
CONTENT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).map(str.strip).filter(bool)


@cache
def tokenizer() -> Tokenizer:
    return load_tokenizer(HERE.parent / "models" / "tiny-llama3")


def template(source: str) -> ChatTemplate:
    return ChatTemplate(source=source, special_tokens=ROLES)


@cache
def of_family(name: str) -> tuple[ChatTemplate, Turns]:
    own = template((TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8"))
    turns = read_turns(tokenizer(), own)
    assert turns is not None
    return own, turns


def by_ollama(turns: Turns, messages: list[Message], bos: str = "") -> str:
    spoken = [{"Role": message.role, "Content": message.content} for message in messages]
    system = "\n\n".join(message.content for message in messages if message.role == "system")
    return go.render(go_template(turns, bos), {"Messages": spoken, "System": system})


def conversation(contents: list[str], system: str | None) -> list[Message]:
    turns = [Message(("user", "assistant")[place % 2], text) for place, text in enumerate(contents)]
    return [Message("system", system), *turns] if system is not None else turns


@pytest.mark.parametrize("family", FAMILIES)
@given(
    contents=st.lists(CONTENT, min_size=1, max_size=5).filter(lambda texts: len(texts) % 2 == 1),
    system=st.none() | CONTENT,
)
@settings(max_examples=15, deadline=None)
def test_the_go_template_renders_like_the_checkpoints_template(
    family: str, contents: list[str], system: str | None
) -> None:
    own, turns = of_family(family)
    messages = conversation(contents, system)
    asked = messages if own.takes_system else fold_system(messages)
    assert by_ollama(turns, messages) == own.render(asked, add_generation_prompt=True)


def test_bos_is_added_by_ollama() -> None:
    _, turns = of_family("gemma2")
    assert (
        by_ollama(turns, [Message("user", "Hi")], bos="<s>")
        == "<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n"
    )


def test_system_text_in_the_middle_is_a_turn_if_the_template_makes_it_one() -> None:
    own, turns = of_family("llama3")
    messages = [Message("user", "a"), Message("assistant", "b"), Message("system", "c"), Message("user", "d")]
    assert by_ollama(turns, messages) == own.render(messages, add_generation_prompt=True)


def test_a_response_at_the_end_is_left_open_to_be_continued() -> None:
    _, turns = of_family("qwen2")
    text = by_ollama(turns, [Message("user", "Count."), Message("assistant", "One, two,")])
    assert text.endswith("<|im_start|>assistant\nOne, two,")


def test_no_message_is_lost_in_an_unusual_order() -> None:
    _, turns = of_family("gemma2")
    messages = [Message("assistant", "first"), Message("system", "second"), Message("user", "third")]
    text = by_ollama(turns, messages)
    assert "first" in text and "third" in text


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages %}{{ m.content | upper }}<|eot_id|>{% endfor %}",
        "{% for m in messages %}{{ m.role }}{{ loop.index }}: {{ m.content }}\n{% endfor %}",
        "{% for m in messages %}[{{ m.role }}, {{ m.content | length }} letters] {{ m.content }}{% endfor %}",
    ],
    ids=["rewrites contents", "numbers turns", "looks into contents"],
)
def test_a_template_that_does_more_than_surround_messages_has_no_go_template(source: str) -> None:
    assert read_turns(tokenizer(), template(source)) is None


def test_braces_quotes_and_blank_lines_are_preserved() -> None:
    source = '{% for m in messages %}"{{ m.role }}" {{ "{{" }}\n\n\\ {{ m.content }}\n {% endfor %}'
    own = template(source)
    turns = read_turns(tokenizer(), own)
    assert turns is not None
    messages = [Message("user", "a"), Message("assistant", "b"), Message("user", "c")]
    assert by_ollama(turns, messages) == own.render(messages, add_generation_prompt=True)
