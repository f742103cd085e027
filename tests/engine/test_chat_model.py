"""Encoded conversations, and the positions after the instruction and the response."""

from collections.abc import Callable
from typing import Any

import pytest

from mlx_suite.data.steering import AGREEMENT
from mlx_suite.engine.chat_model import ChatModel, EncodedConversation
from tests.text.conftest import family, gemma2_folder, llama3_folder  # noqa: F401

FAMILIES = ("llama3", "llama31", "gemma2", "mistral", "qwen2", "qwen25", "phi3")


def chat_of(one: Any) -> ChatModel:
    return ChatModel(tokenizer=one.tokenizer, template=one.template, max_context=512)


def turns(*contents: str, system: str | None = None) -> list[dict[str, str]]:
    roles = ["user", "assistant"] * len(contents)
    first = [] if system is None else [{"role": "system", "content": system}]
    return first + [{"role": role, "content": text} for role, text in zip(roles, contents, strict=False)]


def text_of(one: Any, ids: tuple[int, ...]) -> str:
    return str(one.tokenizer.decode(ids)).strip()


@pytest.mark.parametrize("name", FAMILIES)
def test_an_instruction_and_its_response_end_with_their_stop_tokens(name: str, family: Callable[[str], Any]) -> None:  # noqa: F811
    one = family(name)
    chat = chat_of(one)

    encoded = chat.encode(turns("What is 2 + 2?", "It is 4."))

    assert isinstance(encoded, EncodedConversation) and encoded.response is not None
    assert encoded.ids[encoded.instruction_end - 1] == chat.turns.user_stop_ids[0]
    assert encoded.ids[-1] == chat.turns.assistant_stop_ids[0]
    assert encoded.response[1] == len(encoded.ids) - 1
    assert text_of(one, encoded.ids[: encoded.instruction_end]).endswith("What is 2 + 2?")
    assert text_of(one, encoded.response_ids) == "It is 4."
    # The assistant header lies between them; Mistral's is empty or a space.
    between = encoded.ids[encoded.instruction_end : encoded.response[0]]
    assert between[: len(chat.turns.to_assistant_ids)] == chat.turns.to_assistant_ids
    assert len(between) <= len(chat.turns.to_assistant_ids) + 1


def test_positions_are_after_the_first_instruction_and_the_last_response(family: Callable[[str], Any]) -> None:  # noqa: F811
    one = family("llama3")

    encoded = chat_of(one).encode(turns("one", "two", "three", "four", system="Be brief."))

    assert isinstance(encoded, EncodedConversation)
    assert text_of(one, encoded.ids[: encoded.instruction_end]).endswith("one")
    assert text_of(one, encoded.response_ids) == "four"


def test_a_system_text_becomes_an_exchange_if_the_template_has_no_system_role(family: Callable[[str], Any]) -> None:  # noqa: F811
    one = family("gemma2")
    chat = chat_of(one)

    encoded = chat.encode(turns("one", "two", system="Be brief."))

    assert isinstance(encoded, EncodedConversation)
    shown = one.tokenizer.decode(encoded.ids, skip_special=False)
    assert shown == (
        "<bos><start_of_turn>user\nBe brief.<end_of_turn>\n<start_of_turn>model\n"
        f"{AGREEMENT}<end_of_turn>\n<start_of_turn>user\none<end_of_turn>\n<start_of_turn>model\ntwo<end_of_turn>"
    )
    assert one.tokenizer.decode(encoded.ids[: encoded.instruction_end]).endswith("one")
    assert one.tokenizer.decode(chat.encode_whole(turns("one", "two")), skip_special=False).endswith(
        "two<end_of_turn>\n"
    )


@pytest.mark.parametrize("contents", [("one",), ("one", ""), ("one", "two", "three")])
def test_without_a_final_response_only_the_instruction_is_encoded(
    contents: tuple[str, ...],
    family: Callable[[str], Any],  # noqa: F811
) -> None:
    one = family("llama3")

    encoded = chat_of(one).encode(turns(*contents))

    assert isinstance(encoded, EncodedConversation)
    assert encoded.response is None
    assert len(encoded.ids) == encoded.instruction_end
    assert text_of(one, encoded.ids).endswith("one")


def test_a_conversation_that_cannot_be_encoded_is_reported_by_reason(family: Callable[[str], Any]) -> None:  # noqa: F811
    llama, gemma = chat_of(family("llama3")), chat_of(family("gemma2"))
    refused = [*turns("one", "two"), {"role": "assistant", "content": "three"}]

    assert llama.encode([{"role": "assistant", "content": "two"}]) == "no_instruction"
    assert llama.encode(turns("  ", "two")) == "no_instruction"
    assert gemma.encode(refused) == "template"
    assert gemma.encode_whole(refused) == ()


def test_a_response_stops_at_its_end_and_at_markers_of_other_turns(family: Callable[[str], Any]) -> None:  # noqa: F811
    chat = chat_of(family("llama3"))
    stops = chat.response_stops
    assert stops[0] == chat.response_end == chat.tokenizer.id_of("<|eot_id|>")
    assert chat.response_ends <= set(stops)
    assert chat.tokenizer.id_of("<|start_header_id|>") in stops


def test_without_a_template_a_response_stops_at_the_stop_tokens_of_its_style(family: Callable[[str], Any]) -> None:  # noqa: F811
    chat = ChatModel(tokenizer=family("llama3").tokenizer, template=None, style="alpaca")
    assert chat.response_stops == chat.stop_ids
