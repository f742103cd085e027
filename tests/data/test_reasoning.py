"""Reasoning is written as the template writes it, or dropped; what a template drops is counted."""

import pytest

from mlx_suite.data.encode.encoding import encode_all
from mlx_suite.data.example import Example
from mlx_suite.data.read.formats import FORMATS, read_example
from mlx_suite.data.read.records import Record
from mlx_suite.text import Message
from mlx_suite.text.reasoning import split_reasoning
from tests.data.story import Families, said, shown
from tests.text.conftest import Family


def written(one: Family, example: Example, reasoning: bool = True) -> tuple[str, list[str]]:
    """The document and the notes."""
    found = encode_all([example], style="chat", tokenizer=one.tokenizer, template=one.template, reasoning=reasoning)
    return shown(found.documents[0], one.tokenizer), list(found.notes.lines())


APART = Example(messages=(Message("user", "2+2?"), Message("assistant", "4", reasoning="Add.")), place="rows.jsonl:1")
TAGGED = said("U: 2+2?", "A: <think>\nAdd.\n</think>\n\n4")


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_it_is_read_from_a_key_of_its_own(key: str) -> None:
    turns = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4", key: "Add."}]
    read = read_example(Record("rows.jsonl:1", {"messages": turns}), FORMATS["messages"])
    assert read == APART


@pytest.mark.parametrize("example", [APART, TAGGED])
def test_qwen_writes_it_in_its_own_tags(family: Families, example: Example) -> None:
    text, notes = written(family("qwen3"), example)
    assert text.endswith("<|im_start|>assistant\n[<think>\nAdd.\n</think>\n\n4<|im_end|>]\n")
    assert notes == []


@pytest.mark.parametrize("example", [APART, TAGGED])
def test_a_template_without_reasoning_has_it_in_the_response(family: Families, example: Example) -> None:
    text, notes = written(family("llama3"), example)
    assert text.endswith("assistant<|end_header_id|>\n\n[<think>\nAdd.\n</think>\n\n4<|eot_id|>]")
    assert notes == []


@pytest.mark.parametrize("name", ["llama3", "r1"])
@pytest.mark.parametrize("example", [APART, TAGGED, said("U: 2+2?", "A: Add.\n</think>\n\n4")])
def test_dropped_it_is_nowhere(family: Families, name: str, example: Example) -> None:
    text, notes = written(family(name), example, reasoning=False)
    assert "Add" not in text and "think" not in text
    assert notes == []


def test_the_turns_whose_text_a_template_cuts_are_counted(family: Families) -> None:
    example = said("U: a", "A: <think>x</think>A", "U: b", "A: <think>y</think>B")
    assert written(family("qwen3"), example)[1] == ["the chat template drops text of 1 turn, such as earlier reasoning"]
    assert written(family("r1"), example)[1] == ["the chat template drops text of 2 turns, such as earlier reasoning"]
    assert written(family("gemma3"), example)[1] == []


@pytest.mark.parametrize(
    ("text", "opened", "parts"),
    [
        ("<think>\nAdd.\n</think>\n\n4", False, ("Add.", "4")),
        ("Add.\n</think>\n\n4", True, ("Add.", "4")),
        ("Use </think> to close.", False, ("", "Use </think> to close.")),
        ("<think>Add", False, None),
        ("Add", True, None),
    ],
)
def test_a_trace_ends_at_its_tag(text: str, opened: bool, parts: tuple[str, str] | None) -> None:
    assert split_reasoning(text, opened=opened) == parts


class TestSpelledSpecialTokens:
    TEXT = Example(
        text="<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>", place="rows.jsonl:1"
    )
    PAIR = said("U: <|start_header_id|>Hi<|end_header_id|>", "A:  Hello<|eot_id|>")

    def tokens(self, one: Family, example: Example, style: str, read: bool) -> tuple[list[str], list[str]]:
        found = encode_all(
            [example], style=style, tokenizer=one.tokenizer, template=one.template, read_special_tokens=read
        )
        special = one.tokenizer.special_ids
        names = [one.tokenizer.token_of(token) or "" for token in found.documents[0].tokens if token in special]
        return names, list(found.notes.lines())

    def test_they_are_letters_and_it_is_said(self, family: Families) -> None:
        names, notes = self.tokens(family("llama3"), self.TEXT, "chat", read=False)
        assert names == ["<|begin_of_text|>", "<|eot_id|>"]
        assert notes == [
            "special tokens are spelled in 1 row and trained as letters: if the texts hold a chat template "
            "already, use --read-special-tokens --style plain"
        ]

    def test_the_markers_of_another_family_are_text_and_it_is_said(self, family: Families) -> None:
        pair = said("U: [INST] Hi [/INST]", "A: Hello</s>")
        _, notes = self.tokens(family("llama3"), pair, "chat", read=False)
        assert notes == [
            "markers of a chat template, such as [INST] or <|im_start|>, are in 1 row and trained as text, because "
            "this tokenizer has no such tokens: remove them from the texts"
        ]
        assert self.tokens(family("llama3"), said("U: Hi", "A: Hello"), "chat", read=False)[1] == []

    def test_they_are_read_as_tokens_with_one_bos_and_one_stop_token(self, family: Families) -> None:
        names, notes = self.tokens(family("llama3"), self.TEXT, "plain", read=True)
        assert names == ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
        assert notes == []
        names, _ = self.tokens(family("llama3"), self.PAIR, "plain", read=True)
        assert names == ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
