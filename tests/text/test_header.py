"""Magpie's pre-query header is derived from the template and verified."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlx_suite.runtime.errors import UserError
from mlx_suite.text import (
    ChatTemplate,
    Message,
    PreQuery,
    derive_pre_query,
    load_chat_template,
    load_tokenizer,
)


def shown(one: Any, ids: tuple[int, ...]) -> str:
    return str(one.tokenizer.decode(ids, skip_special=False))


def derive(one: Any, **options: Any) -> PreQuery:
    return derive_pre_query(one.tokenizer, one.template, **options)


def test_every_token_of_the_header_of_a_byte_tokenizer(byte_folder: Path) -> None:
    found = derive_pre_query(load_tokenizer(byte_folder), load_chat_template(byte_folder))
    user, assistant = [84, 82, 68, 81], [64, 82, 82, 72, 82, 83, 64, 77, 83]
    assert found == PreQuery(
        header_ids=(256, 262, *user, 263, 198, 198),
        user_stop_ids=(265, 256, 262, 263),
        to_assistant_ids=(262, *assistant, 263, 198, 198),
        to_user_ids=(262, *user, 263, 198, 198),
        assistant_stop_ids=(265, 256, 262, 263),
    )


def test_the_header_of_the_small_llama_is_five_tokens(family: Callable[[str], Any]) -> None:
    one = family("llama3")
    header = derive(one).header_ids
    assert shown(one, header) == "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n"
    user, gap = one.tokenizer.id_of("user"), one.tokenizer.id_of("ĊĊ")
    assert header == (368, 374, user, 375, gap)


def test_gemmas_header_ends_in_one_newline(family: Callable[[str], Any]) -> None:
    one = family("gemma2")
    found = derive(one)
    user = one.tokenizer.id_of("user")
    assert found.header_ids == (2, 106, user, 108)
    assert found.user_stop_ids == (107, 1, 2, 106)
    assert shown(one, found.to_assistant_ids) == "\n<start_of_turn>model\n"
    assert shown(one, found.to_user_ids) == "\n<start_of_turn>user\n"


def test_mistrals_inst_is_both_stop_token_and_header(family: Callable[[str], Any]) -> None:
    found = derive(family("mistral"))
    assert found == PreQuery(
        header_ids=(1, 3),
        user_stop_ids=(4, 2, 1, 3),
        to_assistant_ids=(),
        to_user_ids=(3,),
        assistant_stop_ids=(2, 1, 3),
    )


def test_qwens_default_system_prompt_is_part_of_the_header(family: Callable[[str], Any]) -> None:
    one = family("qwen25")
    assert shown(one, derive(one).header_ids) == (
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant."
        "<|im_end|>\n<|im_start|>user\n"
    )
    assert shown(one, derive(one, system="Be brief.").header_ids) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n"
    )


def test_phi_3s_markers_absorb_their_newlines(family: Callable[[str], Any]) -> None:
    one = family("phi3")
    found = derive(one)
    assert shown(one, found.header_ids) == "<|user|>"
    assert shown(one, found.user_stop_ids[:1]) == "<|end|>"
    assert shown(one, found.to_assistant_ids) == "<|assistant|>"


def test_a_system_message_goes_before_the_header(family: Callable[[str], Any]) -> None:
    one = family("llama31")
    assert shown(one, derive(one, system="Ask about maths.").header_ids) == (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
        "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
        "Ask about maths.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
    )


def test_a_first_exchange_steers_a_model_without_a_system_role(
    family: Callable[[str], Any],
) -> None:
    one = family("gemma2")
    before = [Message("user", "Ask me about maths."), Message("assistant", "Go on.")]
    assert shown(one, derive(one, before=before).header_ids) == (
        "<bos><start_of_turn>user\nAsk me about maths.<end_of_turn>\n"
        "<start_of_turn>model\nGo on.<end_of_turn>\n<start_of_turn>user\n"
    )


def test_the_parts_of_a_conversation_add_up_to_the_encoded_chat(
    family: Callable[[str], Any],
) -> None:
    one = family("llama3")
    found, encode = derive(one), one.tokenizer.encode
    joined = [
        *found.header_ids,
        *encode("What is the capital of France?"),
        found.user_stop_ids[0],
        *found.to_assistant_ids,
        *encode("Paris."),
        found.assistant_stop_ids[0],
    ]
    from mlx_suite.text import encode_chat

    messages = [Message("user", "What is the capital of France?"), Message("assistant", "Paris.")]
    assert joined == encode_chat(one.tokenizer, one.template, messages).ids


@pytest.mark.parametrize("name", ["gemma2", "mistral"])
def test_a_system_message_that_the_header_cannot_include_is_an_error(family: Callable[[str], Any], name: str) -> None:
    with pytest.raises(UserError) as caught:
        derive(family(name), system="Be brief.")
    assert caught.value.what.startswith("the pre-query header cannot be derived")
    assert caught.value.fix.startswith("steer with a first exchange instead")


TURN = "<|start_header_id|>{{ m.role }}<|end_header_id|>{{ m.content }}<|eot_id|>"


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (
            "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
            "no special token ends the instruction, only the text '\\nassistant: '",
        ),
        (
            "{% for m in messages %}" + TURN.replace("m.role", "'user'") + "{% endfor %}",
            "user turns and assistant turns begin with the same tokens",
        ),
        (
            "{% for m in messages %}" + TURN.replace("m.content", "m.content | upper") + "{% endfor %}",
            "the encoded chat has 'HI' instead of 'Hi'",
        ),
        (
            "{% for m in messages %}<|begin_of_text|>" + TURN + "{% endfor %}",
            "the header has 3 BOS tokens instead of one",
        ),
        (
            "{% for m in messages if m.role == 'user' %}" + TURN + "{% endfor %}",
            "the response does not appear in the encoded chat",
        ),
    ],
)
def test_an_unsuitable_template_is_an_error_that_says_why(byte_folder: Path, source: str, problem: str) -> None:
    template = ChatTemplate(source=source, special_tokens={}, origin="a template")
    before = [Message("user", "One."), Message("assistant", "Two.")] if "BOS" in problem else []
    with pytest.raises(UserError) as caught:
        derive_pre_query(load_tokenizer(byte_folder), template, before=before)
    assert caught.value.what.endswith(problem)
    assert caught.value.where == "a template"
