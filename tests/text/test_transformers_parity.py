"""The same ids as transformers, the reference, for messages without special tokens."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mlx_suite.text import Message, encode_chat, load_tokenizer

FAMILIES = ["llama3", "llama31", "gemma2", "gemma3", "mistral", "qwen2", "qwen25", "qwen3", "phi3", "r1"]

WORDS = st.lists(
    st.sampled_from(["the user", " ", "  ", "\n", "\t", "it's", "123", "é", "e\u0301", "日本", "🦙", "."]),
    max_size=8,
).map("".join)
CONTENT = WORDS | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@pytest.fixture(scope="module")
def reference() -> Callable[[Path], Any]:
    from transformers import AutoTokenizer

    made: dict[Path, Any] = {}

    def load(folder: Path) -> Any:
        if folder not in made:
            made[folder] = AutoTokenizer.from_pretrained(str(folder))
        return made[folder]

    return load


@settings(max_examples=40, deadline=None)
@given(contents=st.lists(CONTENT, min_size=1, max_size=4), prompt=st.booleans())
@pytest.mark.parametrize("name", FAMILIES)
def test_chats_are_encoded_as_in_transformers(
    family: Callable[[str], Any],
    reference: Callable[[Path], Any],
    name: str,
    contents: list[str],
    prompt: bool,
) -> None:
    one = family(name)
    roles = ("user", "assistant", "user", "assistant")
    messages = [Message(*pair) for pair in zip(roles, contents, strict=False)]
    assume(not any(one.tokenizer.specials.search(content) for content in contents))
    ours = encode_chat(one.tokenizer, one.template, messages, add_generation_prompt=prompt)
    theirs = reference(one.folder).apply_chat_template(
        [{"role": message.role, "content": message.content} for message in messages],
        tokenize=True,
        add_generation_prompt=prompt,
        return_dict=False,
    )
    assert ours.ids == theirs


@settings(max_examples=40, deadline=None)
@given(text=CONTENT)
@pytest.mark.parametrize("name", ["llama3", "gemma2", "mistral", "qwen2", "phi3"])
def test_plain_texts_are_encoded_and_decoded_as_in_transformers(
    family: Callable[[str], Any], reference: Callable[[Path], Any], name: str, text: str
) -> None:
    tokenizer, theirs = family(name).tokenizer, reference(family(name).folder)
    assume(not tokenizer.specials.search(text))
    ids = theirs.encode(text, add_special_tokens=False)
    assert tokenizer.encode(text) == ids
    assert tokenizer.decode(ids) == theirs.decode(ids)
    assert tokenizer.encode_prompt(text) == theirs.encode(text)


@settings(max_examples=40, deadline=None)
@given(parts=st.lists(st.sampled_from(["<s>", "[INST]", "</s>", "the", " ", "\n", "é"]), max_size=8))
def test_trusted_text_is_encoded_as_in_transformers(
    family: Callable[[str], Any], reference: Callable[[Path], Any], parts: list[str]
) -> None:
    one = family("mistral")
    text = "".join(parts)
    theirs = reference(one.folder).encode(text, add_special_tokens=False)
    assert one.tokenizer.encode_with_specials(text) == theirs


def test_both_backends_agree_on_a_gemma_chat(family: Callable[[str], Any], gemma2_model_folder: Path) -> None:
    one = family("gemma2")
    slow = load_tokenizer(gemma2_model_folder)
    messages = [Message("user", "Who's the user?\n\n  日本 <eos>"), Message("assistant", "You.")]
    assert encode_chat(slow, one.template, messages) == encode_chat(one.tokenizer, one.template, messages)
