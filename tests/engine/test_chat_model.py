"""Conversations in tokens, and the places behind instruction and answer."""

from collections.abc import Callable
from typing import Any

import pytest

from mlx_suite.data.steering import AGREEMENT
from mlx_suite.engine.chat_model import ChatModel, EncodedConversation
from tests.text.conftest import family, gemma2_folder, llama3_folder  # noqa: F401

FAMILIES = ("llama3", "llama31", "gemma2", "mistral", "qwen2", "qwen25", "phi3")


def chat_of(one: Any) -> ChatModel:
    return ChatModel(tokenizer=one.tokenizer, template=one.template, max_context=512)


def turns(*said: str, system: str | None = None) -> list[dict[str, str]]:
    roles = ["user", "assistant"] * len(said)
    first = [] if system is None else [{"role": "system", "content": system}]
    return first + [{"role": role, "content": text} for role, text in zip(roles, said, strict=False)]


def text_of(one: Any, ids: tuple[int, ...]) -> str:
    return str(one.tokenizer.decode(ids)).strip()


@pytest.mark.parametrize("name", FAMILIES)
def test_an_instruction_and_its_answer_end_with_their_stop_tokens(name: str, family: Callable[[str], Any]) -> None:  # noqa: F811
    one = family(name)
    chat = chat_of(one)

    spoken = chat.encode(turns("What is 2 + 2?", "It is 4."))

    assert isinstance(spoken, EncodedConversation) and spoken.response is not None
    assert spoken.ids[spoken.instruction_end - 1] == chat.turns.user_stop_ids[0]
    assert spoken.ids[-1] == chat.turns.assistant_stop_ids[0]
    assert spoken.response[1] == len(spoken.ids) - 1
    assert text_of(one, spoken.ids[: spoken.instruction_end]).endswith("What is 2 + 2?")
    assert text_of(one, spoken.response_ids) == "It is 4."
    # Between them stands the header, in Mistral's case nothing or a space.
    between = spoken.ids[spoken.instruction_end : spoken.response[0]]
    assert between[: len(chat.turns.to_assistant_ids)] == chat.turns.to_assistant_ids
    assert len(between) <= len(chat.turns.to_assistant_ids) + 1


def test_of_several_turns_the_first_question_and_the_last_answer_count(family: Callable[[str], Any]) -> None:  # noqa: F811
    one = family("llama3")

    spoken = chat_of(one).encode(turns("one", "two", "three", "four", system="Be brief."))

    assert isinstance(spoken, EncodedConversation)
    assert text_of(one, spoken.ids[: spoken.instruction_end]).endswith("one")
    assert text_of(one, spoken.response_ids) == "four"


def test_a_system_text_becomes_an_exchange_where_the_template_knows_none(family: Callable[[str], Any]) -> None:  # noqa: F811
    one = family("gemma2")
    chat = chat_of(one)

    spoken = chat.encode(turns("one", "two", system="Be brief."))

    assert isinstance(spoken, EncodedConversation)
    shown = one.tokenizer.decode(spoken.ids, skip_special=False)
    assert shown == (
        "<bos><start_of_turn>user\nBe brief.<end_of_turn>\n<start_of_turn>model\n"
        f"{AGREEMENT}<end_of_turn>\n<start_of_turn>user\none<end_of_turn>\n<start_of_turn>model\ntwo<end_of_turn>"
    )
    assert one.tokenizer.decode(spoken.ids[: spoken.instruction_end]).endswith("one")
    assert one.tokenizer.decode(chat.encode_whole(turns("one", "two")), skip_special=False).endswith(
        "two<end_of_turn>\n"
    )


@pytest.mark.parametrize("said", [("one",), ("one", ""), ("one", "two", "three")])
def test_without_an_answer_at_the_end_there_is_the_instruction_alone(
    said: tuple[str, ...],
    family: Callable[[str], Any],  # noqa: F811
) -> None:
    one = family("llama3")

    spoken = chat_of(one).encode(turns(*said))

    assert isinstance(spoken, EncodedConversation)
    assert spoken.response is None
    assert len(spoken.ids) == spoken.instruction_end
    assert text_of(one, spoken.ids).endswith("one")


def test_what_cannot_be_spoken_is_named(family: Callable[[str], Any]) -> None:  # noqa: F811
    llama, gemma = chat_of(family("llama3")), chat_of(family("gemma2"))
    refused = [*turns("one", "two"), {"role": "assistant", "content": "three"}]

    assert llama.encode([{"role": "assistant", "content": "two"}]) == "no_instruction"
    assert llama.encode(turns("  ", "two")) == "no_instruction"
    assert gemma.encode(refused) == "template"
    assert gemma.encode_whole(refused) == ()
