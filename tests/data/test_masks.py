"""A response is trained from where the generation prompt ends to its stop token, on every template and row."""

from collections.abc import Callable
from os.path import commonprefix
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_suite.data.encode.encoding import encode_all
from mlx_suite.data.encode.styles import CHAT, Writer
from mlx_suite.data.example import Example
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import ChatTemplate, Message, encode_chat
from mlx_suite.text.template import with_variables
from tests.data.story import Families, document, said, shown
from tests.text.conftest import Family

STOPS = {
    **dict.fromkeys(["llama3", "llama31", "llama32"], "<|eot_id|>"),
    **dict.fromkeys(["gemma2", "gemma3"], "<end_of_turn>"),
    **dict.fromkeys(["mistral", "mistral_v01"], "</s>"),
    **dict.fromkeys(["phi3", "phi3_medium", "phi3_small"], "<|end|>"),
    **dict.fromkeys(["qwen2", "qwen25", "qwen3"], "<|im_end|>"),
    "r1": "<｜end▁of▁sentence｜>",
}
"""Templates, and the stop token that each writes after a response."""

PARTS = [
    "Hi",
    " ",
    "\n",
    "\n\n",
    "4",
    "{",
    '"',
    "é",
    "🦙",
    "<|eot_id|>",
    "<end_of_turn>",
    "</s>",
    "[/INST]",
    "<|im_end|>",
    "[INST]",
]
PARTS += ["<think>", "</think>", "<|im_start|>assistant\n", "<|endoftext|>", "<tool_response>", "assistant"]
TEXT = st.lists(st.sampled_from(PARTS), max_size=6).map("".join)
THOUGHT = st.sampled_from(["", "<think>\nAdd.\n</think>\n\n", "<think>\n\n</think>\n\n", "<think>x</think>"])
RESPONSE = st.builds(lambda thought, text: thought + text, THOUGHT, TEXT)


@st.composite
def rows(draw: Callable[..., Any]) -> list[Message]:
    messages = [Message("system", draw(TEXT))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        messages += [Message("user", draw(TEXT)), Message("assistant", draw(RESPONSE))]
    return messages


@pytest.mark.parametrize("name", STOPS)
@given(messages=rows())
@settings(max_examples=25, deadline=None)
def test_a_response_is_trained_from_the_end_of_the_generation_prompt(
    family: Families, name: str, messages: list[Message]
) -> None:
    one = family(name)
    writer = Writer(style=CHAT, tokenizer=one.tokenizer, template=one.template)
    example = Example(messages=tuple(messages), place="rows.jsonl:1")
    found = encode_all([example], style=CHAT, tokenizer=one.tokenizer, template=one.template)
    if found.problems:
        # Nothing else is refused than rows in which the template leaves nothing to train on.
        assert "empty" in str(found.problems[0]) or "omits turn" in str(found.problems[0])
        return
    [made] = found.documents
    turns = writer.write(messages).turns
    whole = encode_chat(one.tokenizer, one.template, turns)
    assert list(made.tokens) == whole.ids
    expected = [0.0] * len(whole.ids)
    stop = one.tokenizer.id_of(STOPS[name])
    for number, turn in enumerate(turns):
        own = [place for place, owner in enumerate(whole.owner) if owner == number]
        if turn.role == "assistant" and own:
            before = encode_chat(one.tokenizer, one.template, turns[:number], add_generation_prompt=True)
            # Where a token spans the boundary, the ids before it are the common ones.
            start = min(len(commonprefix([before.ids, whole.ids])), own[0])
            end = whole.ids.index(stop, own[-1])
            expected[start : end + 1] = [1.0] * (end + 1 - start)
    assert list(made.weights) == expected


class TestQwen3:
    @pytest.fixture
    def qwen(self, family: Families) -> Family:
        return family("qwen3")

    def test_reasoning_in_a_single_turn_is_trained(self, qwen: Family) -> None:
        made = document(qwen, said("U: 2+2?", "A: <think>\nAdd.\n</think>\n\n4"))
        assert shown(made, qwen.tokenizer) == (
            "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n[<think>\nAdd.\n</think>\n\n4<|im_end|>]\n"
        )

    def test_the_reasoning_of_earlier_turns_is_cut_and_the_empty_block_is_trained(self, qwen: Family) -> None:
        made = document(qwen, said("U: a", "A: <think>\nb\n</think>\n\nB", "U: c", "A: C"))
        assert shown(made, qwen.tokenizer) == (
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n[B<|im_end|>]\n"
            "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n[<think>\n\n</think>\n\nC<|im_end|>]\n"
        )

    def test_without_thinking_the_empty_block_belongs_to_the_prompt(self, qwen: Family) -> None:
        quiet = Family(
            folder=qwen.folder,
            tokenizer=qwen.tokenizer,
            template=with_variables(qwen.template, {"enable_thinking": False}),
        )
        made = document(quiet, said("U: c", "A: C"))
        assert shown(made, qwen.tokenizer) == (
            "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n[C<|im_end|>]\n"
        )

    def test_a_row_that_names_a_special_token_is_trained(self, qwen: Family) -> None:
        made = document(qwen, said("U: Explain <|im_end|> please", "A: <think>x</think>It ends <|im_end|>"))
        assert sum(token == qwen.tokenizer.id_of("<|im_end|>") for token in made.tokens) == 2


def test_a_template_that_strips_newlines_keeps_its_own(family: Families) -> None:
    one = family("llama3")
    source = (
        "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>{{ '\n\n' }}"
        "{{ m.content.lstrip('\n') }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>{{ '\n\n' }}{% endif %}"
    ).replace("'\n\n'", r"'\n\n'").replace("'\n'", r"'\n'")  # fmt: skip
    stripping = Family(
        folder=one.folder, tokenizer=one.tokenizer, template=ChatTemplate(source=source, special_tokens={})
    )
    made = document(stripping, said("U: \n<|eot_id|>", "A: \n\nfine\n"))
    assert shown(made, one.tokenizer) == (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n<|eot_id|><|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n[fine\n<|eot_id|>]"
    )
    assert list(made.tokens).count(one.tokenizer.id_of("<|eot_id|>") or 0) == 2


def test_a_template_without_a_prompt_after_a_tool_result_starts_at_the_text(family: Families) -> None:
    one = family("llama3")
    source = (
        "{% if add_generation_prompt and messages[-1].role == 'tool' %}{{ raise_exception('no prompt') }}{% endif %}"
        "{% for m in messages %}{{ m.role + ':\\n' + m.content }}<|eot_id|>{% endfor %}"
        "{{ 'assistant:\\n' if add_generation_prompt }}"
    )
    refusing = Family(
        folder=one.folder, tokenizer=one.tokenizer, template=ChatTemplate(source=source, special_tokens={})
    )
    with pytest.raises(UserError):
        refusing.template.render([Message("tool", "18 C")], add_generation_prompt=True)
    made = document(refusing, said("U: a", "A: b", "T: c", "A: d"))
    assert shown(made, one.tokenizer) == (
        "<|begin_of_text|>user:\na<|eot_id|>assistant:\n[b<|eot_id|>]tool:\nc<|eot_id|>assistant:\n[d<|eot_id|>]"
    )
