"""Prompt styles of conversations, and the prompts given to a model."""

from pathlib import Path

import pytest

from mlx_suite.data.encode.styles import STYLES, Writer
from mlx_suite.finetune.settings import CHOICES
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import ChatTemplate, Message, load_chat_template, load_tokenizer
from tests.data.story import FAMILIES, Families, document, problem, said, shown
from tests.text.conftest import Family

PREAMBLE = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
HEADER = "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n"
REPLY = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"


@pytest.fixture(scope="module")
def letters(byte_folder: Path) -> Family:
    """Llama 3's template with one token per character."""
    return Family(folder=byte_folder, tokenizer=load_tokenizer(byte_folder), template=load_chat_template(byte_folder))


def test_the_styles_are_the_choices_of_the_settings() -> None:
    assert STYLES == CHOICES["style"]


class TestAlpaca:
    def test_an_instruction_without_an_input_has_no_input_header(self, letters: Family) -> None:
        made = document(letters, said("U: Add 1 and 2.", "A: 3"), "alpaca")
        assert shown(made, letters.tokenizer) == (
            f"<|begin_of_text|>{PREAMBLE}\n\n### Instruction:\nAdd 1 and 2.\n\n### Response:\n[3<|eot_id|>]"
        )

    def test_an_input_has_its_own_header(self, letters: Family) -> None:
        made = document(letters, said("U: Add.", "A: 3", context="1 and 2"), "alpaca")
        assert shown(made, letters.tokenizer) == (
            f"<|begin_of_text|>{PREAMBLE}\n\n### Instruction:\nAdd.\n\n### Input:\n1 and 2"
            "\n\n### Response:\n[3<|eot_id|>]"
        )

    def test_a_system_prompt_replaces_the_preamble(self, letters: Family) -> None:
        made = document(letters, said("S: Be brief.", "U: Add.", "A: 3"), "alpaca")
        assert shown(made, letters.tokenizer) == (
            "<|begin_of_text|>Be brief.\n\n### Instruction:\nAdd.\n\n### Response:\n[3<|eot_id|>]"
        )

    def test_later_turns_follow_the_stop_token(self, letters: Family) -> None:
        made = document(letters, said("U: Add.", "A: 3", "U: Again.", "A: 4", context="1, 2"), "alpaca")
        assert shown(made, letters.tokenizer) == (
            f"<|begin_of_text|>{PREAMBLE}\n\n### Instruction:\nAdd.\n\n### Input:\n1, 2\n\n### Response:\n[3<|eot_id|>]"
            "\n\n### Instruction:\nAgain.\n\n### Response:\n[4<|eot_id|>]"
        )

    def test_contents_are_trimmed_as_in_chat_templates(self, letters: Family) -> None:
        assert document(letters, said("U:  Add.\n", "A: \n3 "), "alpaca") == document(
            letters, said("U: Add.", "A: 3"), "alpaca"
        )


def test_phi3_writes_markers_as_text_if_they_are_not_tokens(letters: Family) -> None:
    made = document(letters, said("S: Be brief.", "U: Hi", "A: Ho", "U: Bye", "A: So long", context="Now"), "phi3")
    assert shown(made, letters.tokenizer) == (
        "<|begin_of_text|><|system|>\nBe brief.\n\n<|user|>\nHi\nNow\n\n<|assistant|>\n[Ho<|eot_id|>]"
        "\n\n<|user|>\nBye\n\n<|assistant|>\n[So long<|eot_id|>]"
    )


def test_phi3_is_the_text_of_the_book(letters: Family) -> None:
    made = document(letters, said("U: Spell the word.", "A: It is Occasion.", context="Ocassion"), "phi3")
    assert shown(made, letters.tokenizer) == (
        "<|begin_of_text|><|user|>\nSpell the word.\nOcassion\n\n<|assistant|>\n[It is Occasion.<|eot_id|>]"
    )


def test_plain_puts_the_response_right_after_the_prompt_and_keeps_its_space(letters: Family) -> None:
    made = document(letters, said("U: The capital of France is", "A:  Paris"), "plain")
    assert shown(made, letters.tokenizer) == "<|begin_of_text|>The capital of France is[ Paris<|eot_id|>]"


def test_no_token_spans_the_prompt_and_the_response(family: Families) -> None:
    # Prompt and response together would be one token.
    one = family("llama3")
    made = document(one, said("U: assist", "A: ant"), "plain")
    assert shown(made, one.tokenizer) == "<|begin_of_text|>assist[ant<|eot_id|>]"
    assert one.tokenizer.encode("assistant") != [*one.tokenizer.encode("assist"), *one.tokenizer.encode("ant")]


def test_plain_separates_turns_by_a_blank_line(letters: Family) -> None:
    made = document(letters, said("S: Capitals.", "U: France:", "A:  Paris", "U: Italy:", "A:  Rome"), "plain")
    assert shown(made, letters.tokenizer) == (
        "<|begin_of_text|>Capitals.\n\nFrance:[ Paris<|eot_id|>]\n\nItaly:[ Rome<|eot_id|>]"
    )


@pytest.mark.parametrize(
    ("style", "written"),
    [
        ("alpaca", "4\n\n### Response:\n[Four.<|eot_id|>]"),
        ("phi3", "4\n\n<|assistant|>\n[Four.<|eot_id|>]"),
        ("plain", "4[Four.<|eot_id|>]"),
    ],
)
def test_a_tool_result_is_a_user_turn_in_text_styles(letters: Family, style: str, written: str) -> None:
    made = document(letters, said("U: 2 + 2?", "A: add(2, 2)", "T: 4", "A: Four."), style)
    assert shown(made, letters.tokenizer).endswith(f"[tool] {written}")


class TestChat:
    def test_a_context_follows_the_first_instruction_after_a_blank_line(self, letters: Family) -> None:
        made = document(letters, said("U: Add.", "A: 3", "U: Again.", "A: 3", context="1 and 2"))
        assert shown(made, letters.tokenizer).startswith(f"{HEADER}Add.\n\n1 and 2{REPLY}[3<|eot_id|>]")

    def test_a_role_that_the_template_supports_is_kept(self, letters: Family) -> None:
        made = document(letters, said("S: Be brief.", "U: 2 + 2?", "A: add(2, 2)", "T: 4", "A: Four."))
        text = shown(made, letters.tokenizer)
        assert "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>" in text
        assert "<|start_header_id|>tool<|end_header_id|>\n\n4<|eot_id|>" in text

    def test_system_text_and_tools_are_in_user_turns_for_gemma(self, family: Families) -> None:
        one = family("gemma2")
        made = document(one, said("S: Be brief.", "U: 2 + 2?", "A: add(2, 2)", "T: 4", "A: Four."))
        assert shown(made, one.tokenizer) == (
            "<bos><start_of_turn>user\nBe brief.\n\n2 + 2?<end_of_turn>\n"
            "<start_of_turn>model\n[add(2, 2)<end_of_turn>]\n"
            "<start_of_turn>user\n[tool] 4<end_of_turn>\n<start_of_turn>model\n[Four.<end_of_turn>]\n"
        )

    def test_a_system_prompt_that_the_template_omits_after_a_response_is_folded(self, family: Families) -> None:
        # Mistral's template writes it only into a last user turn, so a conversation with a response would lose it.
        one = family("mistral")
        example = said("S: Be brief.", "U: Hi", "A: Hello")
        assert "Be brief." not in one.template.render(example.messages)
        made = document(one, example)
        assert one.tokenizer.decode(made.tokens).count("Be brief.") == 1
        prompt = Writer(style="chat", tokenizer=one.tokenizer, template=one.template).ask(example.messages[:2])
        assert list(made.tokens[: len(prompt)]) == prompt

    def test_a_turn_that_the_template_omits_is_a_problem(self, letters: Family) -> None:
        source = "{% for m in messages[-2:] %}{{ m.role }}: {{ m.content }}<|eot_id|>{% endfor %}"
        omitting = Family(
            folder=letters.folder,
            tokenizer=letters.tokenizer,
            template=ChatTemplate(source=source, special_tokens={}),
        )
        assert problem(omitting, said("U: a", "A: b", "U: c", "A: d")) == (
            "rows.jsonl:1: the chat template omits turn 1 (user), 2 (assistant)"
        )


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("style", STYLES)
def test_the_prompt_equals_the_tokens_before_the_response_in_training(family: Families, name: str, style: str) -> None:
    one = family(name)
    example = said("S: Be brief.", "U: What is it?", "A: The fox.", "U: And this?", "A: The dog.", context="A fox.")
    made = document(one, example, style)
    first = next(place for place, weight in enumerate(made.weights) if weight)
    writer = Writer(style=style, tokenizer=one.tokenizer, template=one.template)
    prompt = writer.ask(example.messages[:2], example.context)
    assert prompt == list(made.tokens[:first])
    later = writer.ask(example.messages[:4], example.context)
    assert later == list(made.tokens[: len(later)]) and made.weights[len(later)] == 1


def test_the_prompt_of_a_base_model_without_a_template_is_the_text(letters: Family) -> None:
    prompt = Writer(style="chat", tokenizer=letters.tokenizer).ask([Message("user", "Once upon")])
    assert prompt == letters.tokenizer.encode_prompt("Once upon")


def test_a_tokenizer_without_a_stop_token_is_an_error(tmp_path: Path, byte_folder: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((byte_folder / "tokenizer.json").read_bytes())
    tokenizer = load_tokenizer(tmp_path)
    one = Family(folder=tmp_path, tokenizer=tokenizer, template=ChatTemplate(source="", special_tokens={}))
    with pytest.raises(UserError, match="the tokenizer has no stop token"):
        document(one, said("U: Hi", "A: Ho"), "alpaca")
