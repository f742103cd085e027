"""Pre-query headers derived from the chat templates of each model family, by exact token ids."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlx_suite.runtime.errors import UserError
from mlx_suite.text import (
    ChatTemplate,
    Message,
    Tokenizer,
    derive_pre_query,
    encode_chat,
    load_tokenizer,
)
from tests.magpie import family_tokenizers as write

TEMPLATES = Path(__file__).parents[1] / "text" / "templates"
VOCABULARIES: dict[str, Callable[[Path], None]] = {
    "llama3": write.write_llama3,
    "gemma2": write.write_gemma2,
    "mistral": lambda folder: write.write_mistral(folder, write.MISTRAL_V03),
    "mistral_v01": lambda folder: write.write_mistral(folder, write.MISTRAL_V01),
    "qwen": write.write_qwen,
    "phi3": lambda folder: write.write_phi3(folder, adds_bos=False),
    "phi3_medium": lambda folder: write.write_phi3(folder, adds_bos=True),
    "phi3_small": write.write_phi3_small,
}
DATES = (
    "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
    "Today Date: 26 Jul 2024\n\n<|eot_id|>"
)
LLAMA_USER = "<|start_header_id|>user<|end_header_id|>\n\n"


@dataclass(frozen=True, kw_only=True)
class Case:
    """Headers and stop tokens of one chat template, special tokens written out."""

    vocabulary: str
    jinja: str
    header: str
    begins: tuple[int, ...]
    """Leading token ids of the header."""
    user_stops: tuple[int, ...]
    answer_end: int
    to_assistant: str
    to_user: str


def _llama(jinja: str, system: str = "") -> Case:
    return Case(
        vocabulary="llama3",
        jinja=jinja,
        header="<|begin_of_text|>" + system + LLAMA_USER,
        begins=(128000, 128006) if system else (128000, 128006, 882, 128007, 271),
        user_stops=(128009, 128001, 128008, 128000, 128006, 128007),
        answer_end=128009,
        to_assistant=LLAMA_USER.replace("user", "assistant"),
        to_user=LLAMA_USER,
    )


def _qwen(jinja: str, system: str) -> Case:
    return Case(
        vocabulary="qwen",
        jinja=jinja,
        header=f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n",
        begins=(151644,),
        user_stops=(151645, 151643, 151644),
        answer_end=151645,
        to_assistant="\n<|im_start|>assistant\n",
        to_user="\n<|im_start|>user\n",
    )


CASES = [
    _llama("llama3"),
    _llama("llama31", DATES),
    _llama("llama32", DATES),
    Case(
        vocabulary="gemma2",
        jinja="gemma2",
        header="<bos><start_of_turn>user\n",
        begins=(2, 106),
        user_stops=(107, 1, 2, 106),
        answer_end=107,
        to_assistant="\n<start_of_turn>model\n",
        to_user="\n<start_of_turn>user\n",
    ),
    Case(
        vocabulary="mistral",
        jinja="mistral",
        header="<s>[INST]",
        begins=(1, 3),
        user_stops=(4, 2, 1, 3),
        answer_end=2,
        to_assistant="",
        to_user="[INST]",
    ),
    _qwen("qwen2", "You are a helpful assistant."),
    _qwen("qwen25", "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."),
    Case(
        vocabulary="phi3",
        jinja="phi3",
        header="<|user|>",
        begins=(32010,),
        user_stops=(32007, 32000, 32001, 32010),
        answer_end=32007,
        to_assistant="<|assistant|>",
        to_user="<|user|>",
    ),
    Case(
        vocabulary="phi3_medium",
        jinja="phi3_medium",
        header="<s><|user|>",
        begins=(1, 32010),
        user_stops=(32007, 32000, 32001, 1, 32010),
        answer_end=32007,
        to_assistant="<|assistant|>",
        to_user="<|user|>",
    ),
    Case(
        vocabulary="phi3_small",
        jinja="phi3_small",
        header="<|endoftext|><|user|>\n",
        begins=(100257, 100262, 198),
        user_stops=(100266, 100257, 100262, 100263),
        answer_end=100266,
        to_assistant="\n<|assistant|>\n",
        to_user="\n<|user|>\n",
    ),
]
each_case = pytest.mark.parametrize("case", CASES, ids=[case.jinja for case in CASES])
Vocabulary = Callable[[str], Tokenizer]


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    made: dict[str, Tokenizer] = {}

    def make(name: str) -> Tokenizer:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            VOCABULARIES[name](folder)
            made[name] = load_tokenizer(folder)
        return made[name]

    return make


def template_of(tokenizer: Tokenizer, jinja: str) -> ChatTemplate:
    return ChatTemplate(
        source=(TEMPLATES / f"{jinja}.jinja").read_text(encoding="utf-8"),
        special_tokens=tokenizer.settings.roles,
        variables={"date_string": "26 Jul 2024"},
        origin=jinja,
    )


@each_case
def test_the_header_and_stop_tokens_of_each_template(case: Case, vocabulary: Vocabulary) -> None:
    tokenizer = vocabulary(case.vocabulary)
    found = derive_pre_query(tokenizer, template_of(tokenizer, case.jinja))
    assert tokenizer.decode(found.header_ids, skip_special=False) == case.header
    assert found.header_ids[: len(case.begins)] == case.begins
    assert found.user_stop_ids == case.user_stops
    assert found.assistant_stop_ids[0] == case.answer_end
    assert tokenizer.decode(found.to_assistant_ids, skip_special=False) == case.to_assistant
    assert tokenizer.decode(found.to_user_ids, skip_special=False) == case.to_user
    without_bos = case.vocabulary in ("qwen", "phi3")
    assert found.header_ids.count(tokenizer.bos_id) == (0 if without_bos else 1)


@each_case
def test_a_conversation_built_from_the_parts_equals_the_rendered_template(case: Case, vocabulary: Vocabulary) -> None:
    tokenizer = vocabulary(case.vocabulary)
    template = template_of(tokenizer, case.jinja)
    found = derive_pre_query(tokenizer, template)
    turns = [Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "Thanks.")]
    chat = encode_chat(tokenizer, template, turns)
    turn_ids = [
        [index for index, owner in zip(chat.ids, chat.owner, strict=True) if owner == turn] for turn in range(3)
    ]
    parts = [*found.header_ids, *turn_ids[0], case.user_stops[0], *found.to_assistant_ids]
    parts += [*turn_ids[1], case.answer_end, *found.to_user_ids, *turn_ids[2], case.user_stops[0]]
    assert chat.ids[: len(parts)] == parts


def test_two_newlines_after_gemmas_role_are_a_different_token(vocabulary: Vocabulary) -> None:
    gemma = vocabulary("gemma2")
    assert derive_pre_query(gemma, template_of(gemma, "gemma2")).header_ids[-1] == 108
    assert gemma.encode_with_specials("<bos><start_of_turn>user\n\n")[-1] == 109


def test_a_space_after_mistrals_inst_splits_the_first_word(vocabulary: Vocabulary) -> None:
    mistral = vocabulary("mistral")
    whole = mistral.encode_with_specials("<s>[INST] Hi")
    assert [mistral.token_of(index) for index in whole[2:]] == ["▁H", "<0x69>"]
    split = [*mistral.encode_with_specials("<s>[INST] "), *mistral.encode_with_specials("[INST]Hi")[1:]]
    assert [mistral.token_of(index) for index in split[2:]] == ["▁", "H", "<0x69>"]


def test_a_newline_after_phis_role_is_not_a_token(vocabulary: Vocabulary) -> None:
    phi = vocabulary("phi3")
    assert phi.encode_with_specials("<|user|>\n") == [32010]


def test_mistral_0_1_is_refused_because_ordinary_text_ends_its_user_turn(vocabulary: Vocabulary) -> None:
    mistral = vocabulary("mistral_v01")
    with pytest.raises(UserError) as caught:
        derive_pre_query(mistral, template_of(mistral, "mistral_v01"))
    assert caught.value.what.endswith("no special token ends the instruction, only the text '[/INST]'")
